"""Presets and the settings of the models."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labeler.errors import UsageError

DEVICES = ("auto", "cpu", "mps", "cuda", "cuda:N")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class Preset:
    detector: str
    segmenter: str
    about: str


# Open, ungated weights only.
PRESETS = {
    "demo": Preset("embedded:detector", "embedded:segmenter", "coloured shapes only; ships with the package"),
    "fast": Preset("iSEE-Laboratory/llmdet_tiny", "facebook/sam2.1-hiera-tiny", "a laptop, or a first look"),
    "balanced": Preset(
        "openmmlab-community/mm_grounding_dino_base_all", "facebook/sam2.1-hiera-base-plus", "one GPU, good masks"
    ),
    "best": Preset("iSEE-Laboratory/llmdet_large", "facebook/sam2.1-hiera-large", "best labels, slowest"),
}


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides what the models answer, and how fast.

    Attributes:
        detector, segmenter: hub id (``owner/name`` or ``owner/name@revision``), folder, or ``embedded:…``.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        precision: ``auto`` is fp32 on CPU and MPS; on CUDA bf16 where the card has it, else fp16.
        batch_size: images in one forward, at most.
        prompts_per_caption: at most so many prompts in one forward of a grounding detector; None packs all that fit.
        floor: raw candidates with a lower class score are not kept.
        max_instances: raw candidates kept an image, at most.
        clean_share: specks and pinholes below this share of a mask are removed; 0 switches cleaning off.
    """

    detector: str
    segmenter: str
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8
    prompts_per_caption: int | None = None
    floor: float = 0.1
    max_instances: int = 300
    clean_share: float = 0.01

    def __post_init__(self) -> None:
        is_device = re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", self.device) is not None
        _check("device", is_device, f"one of {', '.join(DEVICES)}", self.device)
        _check("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}", self.precision)
        _check("batch_size", self.batch_size >= 1, "1 or more", self.batch_size)
        _check("max_instances", self.max_instances >= 1, "1 or more", self.max_instances)
        _check("floor", 0 < self.floor <= 1, "above 0 and at most 1", self.floor)
        _check("clean_share", 0 <= self.clean_share < 0.5, "from 0 to below 0.5", self.clean_share)
        captions = self.prompts_per_caption
        _check("prompts_per_caption", captions is None or captions >= 1, "1 or more", captions)


def _check(name: str, holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise UsageError(f"{name} must be {expected}, not {found!r}")
