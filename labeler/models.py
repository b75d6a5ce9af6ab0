"""Which models there are, how they are set, and what is made of their checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labeler.checkpoints import load_checkpoint, resolved_device
from labeler.errors import UsageError

if TYPE_CHECKING:
    from labeler.detectors import Detector, Runtime
    from labeler.labelers import GroundedSamLabeler, Labeler
    from labeler.segmenters import Segmenter

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


def load_labeler(config: ModelConfig) -> GroundedSamLabeler:
    """Both models of ``config``, ready to label.

    Raises:
        ModelError: a model cannot be found or loaded, or is of no kind known here.
    """
    from labeler.labelers import GroundedSamLabeler

    return GroundedSamLabeler(
        load_detector(config), load_segmenter(config), floor=config.floor, max_instances=config.max_instances
    )


def for_batches(labeler: Labeler, config: ModelConfig) -> Labeler:
    """A labeler for many images: CPU cores take images of their own, a lost GPU is told from a bad image."""
    from labeler.labelers import DeviceCheckedLabeler, SingleImageLabeler

    device = resolved_device(config.device)
    if device == "cpu":
        return SingleImageLabeler(labeler, cpu_threads(config), limit_threads)
    if device.startswith("cuda"):
        return DeviceCheckedLabeler(labeler, synchronizer(device))
    return labeler


def synchronizer(device: str) -> Callable[[], None]:
    """What waits for all work on a CUDA device, and raises if that is lost."""
    import torch

    return lambda: torch.cuda.synchronize(device)


def cpu_threads(config: ModelConfig) -> int:
    """Images at once on a CPU."""
    import torch

    return min(torch.get_num_threads(), config.batch_size)


def limit_threads() -> None:
    """Make kernels run on the calling thread alone."""
    import torch

    torch.set_num_threads(1)


def load_detector(config: ModelConfig) -> Detector:
    from labeler import detectors

    def grounding(model: Any, processor: Any, runtime: Runtime) -> Detector:
        return detectors.GroundingDinoDetector(model, processor, runtime, config.prompts_per_caption)

    kinds: dict[str, Callable[[Any, Any, Runtime], Detector]] = {
        "grounding-dino": grounding,
        "mm-grounding-dino": grounding,
        "owlv2": detectors.Owlv2Detector,
        "omdet-turbo": detectors.OmDetTurboDetector,
    }
    model, processor, runtime = load_checkpoint(
        config.detector, "detector", "AutoModelForZeroShotObjectDetection", kinds, config
    )
    return kinds[model.config.model_type](model, processor, runtime)


def load_segmenter(config: ModelConfig) -> Segmenter:
    from labeler.segmenters import SamSegmenter

    kinds = ("sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video")
    model, processor, runtime = load_checkpoint(
        config.segmenter, "segmenter", "AutoModelForMaskGeneration", kinds, config
    )
    return SamSegmenter(model, processor, runtime, config.clean_share)
