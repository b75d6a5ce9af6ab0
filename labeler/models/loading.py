"""Loads the detector and the segmenter that a ``ModelConfig`` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labeler.models.checkpoints import SAM3_CLASSES, load_checkpoint
from labeler.models.compiling import compile_detector, compile_segmenter
from labeler.models.config import ModelConfig
from labeler.models.devices import resolved_device
from labeler.models.families import SIGMOID_TYPES, SOFTMAX_TYPES, UNSCORED_TYPES, scored, tokenless
from labeler.models.identity import ULTRALYTICS, is_ultralytics
from labeler.models.image_sizes import resize_detector, resize_segmenter, try_image_size

ZERO_SHOT_TYPES = ("grounding-dino", "mm-grounding-dino", "owlv2", "omdet-turbo")
TOKEN_TYPES = ("grounding-dino", "mm-grounding-dino")  # those that score each token of a prompt
CLOSED_SET_TYPES = (*SIGMOID_TYPES, *SOFTMAX_TYPES)
DETECTOR_CLASSES = {
    **dict.fromkeys(ZERO_SHOT_TYPES, "AutoModelForZeroShotObjectDetection"),
    **dict.fromkeys(UNSCORED_TYPES, "Florence2ForConditionalGeneration"),
    **dict.fromkeys(CLOSED_SET_TYPES, "AutoModelForObjectDetection"),
}
DETECTOR_TYPES = (*DETECTOR_CLASSES, ULTRALYTICS)
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
        detector, model_type = _load_ultralytics(config), ULTRALYTICS
    else:
        loaded = load_checkpoint(config.detector, "detector", DETECTOR_CLASSES, DETECTOR_CLASSES, config)
        model_type = loaded[0].config.model_type
        resize_detector(*loaded[:2], config)
        detector = _makers(config)[model_type](*loaded)
        if model_type in CLOSED_SET_TYPES:
            try_image_size(detector, tuple(loaded[0].config.id2label.values()), config)
        if config.compile:
            compile_detector(detector, loaded[0], loaded[2], config.detector)
    what = f"{config.detector} ({model_type})"
    if config.prompt_score != "mean" and model_type not in TOKEN_TYPES:
        raise tokenless(config.prompt_score, what)
    if config.verify is None:
        return detector
    if model_type not in UNSCORED_TYPES:
        raise scored(config.verify, what)
    from labeler.models.taggers.verified import load_verified

    return load_verified(detector, config)


def _load_ultralytics(config: ModelConfig) -> Detector:
    from labeler.models.detectors.ultralytics import load_ultralytics

    return load_ultralytics(
        config.detector,
        resolved_device(config.device),
        config.floor,
        config.max_instances,
        config.detector_image_size,
    )


def _makers(config: ModelConfig) -> dict[str, Maker]:
    """For each model type, what makes the detector of model, processor and runtime."""
    from labeler.models.detectors.closed_set import ClosedSetDetector
    from labeler.models.detectors.florence2 import Florence2Detector
    from labeler.models.detectors.grounding_dino import GroundingDinoDetector
    from labeler.models.detectors.omdet_turbo import OmDetTurboDetector
    from labeler.models.detectors.owlv2 import Owlv2Detector

    def grounding(model: Any, processor: Any, runtime: Runtime) -> Detector:
        return GroundingDinoDetector(model, processor, runtime, config.prompts_per_caption, config.prompt_score)

    def closed_set(model: Any, processor: Any, runtime: Runtime) -> Detector:
        return ClosedSetDetector(model, processor, runtime, config.detector)

    makers: tuple[Maker, ...] = (grounding, grounding, Owlv2Detector, OmDetTurboDetector)
    return {
        **dict(zip(ZERO_SHOT_TYPES, makers, strict=True)),
        **dict.fromkeys(UNSCORED_TYPES, Florence2Detector),
        **dict.fromkeys(CLOSED_SET_TYPES, closed_set),
    }


def load_segmenter(config: ModelConfig) -> SamSegmenter:
    """The segmenter of ``config``; for errors see ``load_grounded_sam``."""
    from labeler.models.segmenters.sam import SamSegmenter

    model, processor, runtime = load_checkpoint(
        config.segmenter, "segmenter", "AutoModelForMaskGeneration", SEGMENTER_TYPES, config
    )
    resize_segmenter(model, processor, config)
    segmenter = SamSegmenter(model, processor, runtime, config.clean_share)
    if config.compile:
        compile_segmenter(segmenter, config.segmenter)
    return segmenter


def load_sam3(config: ModelConfig) -> Sam3Labeler:
    """SAM 3 with the checkpoint that ``config`` names as its detector; for errors see ``load_grounded_sam``."""
    from labeler.models.labelers.sam3 import Sam3Labeler

    model, processor, runtime = load_checkpoint(config.detector, "detector", SAM3_CLASSES, SAM3_TYPES, config)
    return Sam3Labeler(model, processor, runtime, config.max_instances, config.clean_share)
