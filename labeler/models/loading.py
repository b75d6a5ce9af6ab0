"""Loads the detector and the segmenter that a ``ModelConfig`` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labeler.models.checkpoints import SAM3_CLASSES, load_checkpoint
from labeler.models.config import ModelConfig
from labeler.models.families import tokenless

DETECTOR_TYPES = ("grounding-dino", "mm-grounding-dino", "owlv2", "omdet-turbo")
TOKEN_TYPES = ("grounding-dino", "mm-grounding-dino")  # those that score each token of a prompt
SEGMENTER_TYPES = (
    "sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video", "sam3_tracker", "sam3_video",
)  # fmt: skip
SAM3_TYPES = tuple(SAM3_CLASSES)

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Detector
    from labeler.models.labelers.grounded_sam import GroundedSamLabeler
    from labeler.models.labelers.sam3 import Sam3Labeler
    from labeler.models.runtime import Runtime
    from labeler.models.segmenters.sam import SamSegmenter


def load_grounded_sam(config: ModelConfig) -> GroundedSamLabeler:
    """Grounded SAM with the detector and the segmenter of ``config``.

    Raises:
        ModelError: a model cannot be found or loaded, or is of an unknown type.
        UsageError: this machine does not have ``config.device``.
    """
    from labeler.models.labelers.grounded_sam import GroundedSamLabeler

    return GroundedSamLabeler(
        load_detector(config), load_segmenter(config), candidate_floor=config.floor, max_instances=config.max_instances
    )


def load_detector(config: ModelConfig) -> Detector:
    """The detector of ``config``; for errors see ``load_grounded_sam``."""
    from labeler.models.detectors.grounding_dino import GroundingDinoDetector
    from labeler.models.detectors.omdet_turbo import OmDetTurboDetector
    from labeler.models.detectors.owlv2 import Owlv2Detector

    def grounding(model: Any, processor: Any, runtime: Runtime) -> Detector:
        return GroundingDinoDetector(model, processor, runtime, config.prompts_per_caption, config.prompt_score)

    makers: tuple[Callable[[Any, Any, Runtime], Detector], ...] = (
        grounding,
        grounding,
        Owlv2Detector,
        OmDetTurboDetector,
    )
    kinds = dict(zip(DETECTOR_TYPES, makers, strict=True))
    model, processor, runtime = load_checkpoint(
        config.detector, "detector", "AutoModelForZeroShotObjectDetection", kinds, config
    )
    model_type = model.config.model_type
    if config.prompt_score != "mean" and model_type not in TOKEN_TYPES:
        raise tokenless(config.prompt_score, f"{config.detector} ({model_type})")
    return kinds[model_type](model, processor, runtime)


def load_segmenter(config: ModelConfig) -> SamSegmenter:
    """The segmenter of ``config``; for errors see ``load_grounded_sam``."""
    from labeler.models.segmenters.sam import SamSegmenter

    model, processor, runtime = load_checkpoint(
        config.segmenter, "segmenter", "AutoModelForMaskGeneration", SEGMENTER_TYPES, config
    )
    return SamSegmenter(model, processor, runtime, config.clean_share)


def load_sam3(config: ModelConfig) -> Sam3Labeler:
    """SAM 3 with the checkpoint that ``config`` names as its detector; for errors see ``load_grounded_sam``."""
    from labeler.models.labelers.sam3 import Sam3Labeler

    model, processor, runtime = load_checkpoint(config.detector, "detector", SAM3_CLASSES, SAM3_TYPES, config)
    return Sam3Labeler(model, processor, runtime, config.max_instances, config.clean_share)
