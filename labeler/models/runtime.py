"""On which device, at which precision and with which batch size a model runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Runtime:
    """On which device, at which precision and with which batch size a model runs.

    Attributes:
        device: a torch device.
        dtype: float32, or a lower precision for ``torch.autocast``.
        batch_size: maximum number of images per forward pass.
        candidate_floor: detectors drop boxes whose best score is lower.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    batch_size: int = 8
    candidate_floor: float = 0.1

    def autocast(self) -> torch.autocast:
        """The context that forward passes run in."""
        return torch.autocast(self.device.split(":")[0], self.dtype, enabled=self.dtype != torch.float32)
