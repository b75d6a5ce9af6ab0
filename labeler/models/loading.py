"""Loads the detector and the segmenter that a ``ModelConfig`` names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeler.models.checkpoints import load_checkpoint
from labeler.models.config import ModelConfig

ZERO_SHOT_TYPES = ("grounding-dino", "mm-grounding-dino", "owlv2", "omdet-turbo")
UNSCORED_TYPES = ("florence2",)  # their detections have no confidence
CLOSED_SET_TYPES = (
    "conditional_detr",
    "d_fine",
    "dab-detr",
    "deformable_detr",
    "deimv2",
    "detr",
    "lw_detr",
    "rf_detr",
    "rt_detr",
    "rt_detr_v2",
    "table-transformer",
    "yolos",
)
DETECTOR_TYPES = (*ZERO_SHOT_TYPES, *UNSCORED_TYPES, *CLOSED_SET_TYPES)
SEGMENTER_TYPES = ("sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video")
ULTRALYTICS_SUFFIX = ".pt"

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Detector
    from labeler.models.labelers.grounded_sam import GroundedSamLabeler
    from labeler.models.runtime import Runtime
    from labeler.models.segmenters.segmenter import Segmenter

Maker = Callable[[Any, Any, "Runtime"], "Detector"]


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
    if is_ultralytics(config.detector):
        from labeler.models.detectors.ultralytics import load_ultralytics
        from labeler.models.devices import resolved_device

        return load_ultralytics(config.detector, resolved_device(config.device), config.floor, config.max_instances)
    makers, auto_classes = _families(config)
    model, processor, runtime = load_checkpoint(config.detector, "detector", auto_classes, DETECTOR_TYPES, config)
    return makers[model.config.model_type](model, processor, runtime)


def is_ultralytics(detector: str) -> bool:
    """Whether ``detector`` is a checkpoint file of Ultralytics."""
    return Path(detector).suffix == ULTRALYTICS_SUFFIX


def _families(config: ModelConfig) -> tuple[dict[str, Maker], dict[str, str]]:
    """For each model type, what makes the detector, and the class of ``transformers`` that loads the model."""
    from labeler.models.detectors.closed_set import ClosedSetDetector
    from labeler.models.detectors.florence2 import Florence2Detector
    from labeler.models.detectors.grounding_dino import GroundingDinoDetector
    from labeler.models.detectors.omdet_turbo import OmDetTurboDetector
    from labeler.models.detectors.owlv2 import Owlv2Detector

    def grounding(model: Any, processor: Any, runtime: Runtime) -> Detector:
        return GroundingDinoDetector(model, processor, runtime, config.prompts_per_caption)

    def closed_set(model: Any, processor: Any, runtime: Runtime) -> Detector:
        return ClosedSetDetector(model, processor, runtime, config.detector)

    zero_shot: tuple[Maker, ...] = (grounding, grounding, Owlv2Detector, OmDetTurboDetector)
    makers: dict[str, Maker] = {
        **dict(zip(ZERO_SHOT_TYPES, zero_shot, strict=True)),
        **dict.fromkeys(UNSCORED_TYPES, Florence2Detector),
        **dict.fromkeys(CLOSED_SET_TYPES, closed_set),
    }
    auto_classes = {
        **dict.fromkeys(ZERO_SHOT_TYPES, "AutoModelForZeroShotObjectDetection"),
        **dict.fromkeys(UNSCORED_TYPES, "AutoModelForImageTextToText"),
        **dict.fromkeys(CLOSED_SET_TYPES, "AutoModelForObjectDetection"),
    }
    return makers, auto_classes


def load_segmenter(config: ModelConfig) -> Segmenter:
    """The segmenter of ``config``; for errors see ``load_grounded_sam``."""
    from labeler.models.segmenters.sam import SamSegmenter

    model, processor, runtime = load_checkpoint(
        config.segmenter, "segmenter", "AutoModelForMaskGeneration", SEGMENTER_TYPES, config
    )
    return SamSegmenter(model, processor, runtime, config.clean_share)
