"""Where and how a model runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Runtime:
    """Where and how a model runs.

    Attributes:
        device: a torch device.
        dtype: float32, or the lower precision of ``torch.autocast``.
        batch_size: images in one forward, at most.
        floor: boxes whose best score is lower are not reported.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    batch_size: int = 8
    floor: float = 0.1

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.split(":")[0], self.dtype, enabled=self.dtype != torch.float32)
