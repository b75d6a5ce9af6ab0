"""The interface of detectors: images and prompts in, boxes with a score per prompt out.

The other modules here each wrap one family of detectors. ``labeler.models.loading`` picks one by the
checkpoint's model type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Prompts = tuple[str, ...]


@dataclass(frozen=True)
class Detections:
    """The boxes that a detector finds in one image.

    Attributes:
        boxes_xyxy: float32 ``(n, 4)``, pixels, clipped to the image.
        scores: float32 ``(n, len(prompts))`` in [0, 1]; 0 where box and prompt are not of the same forward pass.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]

    @classmethod
    def none(cls, prompt_count: int) -> Detections:
        """No boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros((0, prompt_count), np.float32))

    @classmethod
    def concatenate(cls, parts: Sequence[Detections], prompt_count: int) -> Detections:
        """The boxes of several forward passes on one image, in order."""
        parts = [cls.none(prompt_count), *parts]
        return cls(np.concatenate([part.boxes_xyxy for part in parts]), np.concatenate([part.scores for part in parts]))


class Detector(Protocol):
    """Finds boxes of objects that prompts describe."""

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        """Detect objects in each image, with its own prompts.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            prompts: one tuple per image. Images may have different prompts; an empty tuple gives no boxes.

        Returns:
            One ``Detections`` per image. It depends only on that image and its prompts, not on the rest of the batch.

        Raises:
            UsageError: see ``forward_passes``.
        """
        ...

    def forward_passes(self, prompts: Prompts) -> int:
        """The number of forward passes that an image with these prompts takes.

        Raises:
            UsageError: a prompt has too many tokens for the model, or none that it knows.
        """
        ...
