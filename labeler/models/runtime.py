"""On which device, at which precision and with which batch size a model runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from labeler.models.uploads import UPLOADS

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Image


@dataclass(frozen=True)
class Runtime:
    """On which device, at which precision and with which batch size a model runs.

    Attributes:
        device: a torch device.
        dtype: float32, or a lower precision for ``torch.autocast``.
        batch_size: maximum number of images per forward pass; see ``images_per_pass``.
        candidate_floor: detectors drop boxes whose best score is lower.
        takes_all: a call with more than ``batch_size`` images takes them in one forward pass; the caller searches for
            the number that fits.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    batch_size: int = 8
    candidate_floor: float = 0.1
    takes_all: bool = False

    def autocast(self) -> torch.autocast:
        """The context that forward passes run in."""
        return torch.autocast(self.device.split(":")[0], self.dtype, enabled=self.dtype != torch.float32)

    def images_per_pass(self, images: int) -> int:
        """Maximum number of images per forward pass, in a call with ``images``."""
        return max(self.batch_size, images) if self.takes_all else self.batch_size

    def processor_input(self, image: Image) -> dict[str, Any]:
        """The arguments by which an image processor gets ``image``, uint8 ``(H, W, 3)`` RGB, and returns tensors.

        On a GPU, the image is resized and normalised on the device. This rounds otherwise than on a CPU, by one of 255
        levels at most.
        """
        if not self.device.startswith("cuda"):
            return {"images": image, "input_data_format": "channels_last", "return_tensors": "pt"}
        pixels = UPLOADS.pixels(image, self.device).permute(2, 0, 1)
        return {"images": pixels, "input_data_format": "channels_first", "return_tensors": "pt"}
