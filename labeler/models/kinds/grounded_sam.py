"""``--labeler grounded-sam``: a detector finds boxes, and a segmenter turns each box into a mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.models.config import ModelConfig
from labeler.models.identity import model_identity
from labeler.models.kinds.kind import NeededModel
from labeler.models.loading import DETECTOR_TYPES, SEGMENTER_TYPES
from labeler.models.taggers.config import CONTRASTIVE, verifier_of

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler


@dataclass(frozen=True)
class GroundedSamKind:
    """See ``labeler.models.labelers.grounded_sam``."""

    kind: ClassVar[str] = "grounded-sam"
    about: ClassVar[str] = "a detector finds boxes for the prompts, a segmenter turns each box into a mask"
    flags: ClassVar[tuple[str, ...]] = (
        "--detector", "--segmenter", "--prompts-per-caption", "--prompt-score", "--verify",
        "--detector-image-size", "--segmenter-image-size", "--compile",
    )  # fmt: skip

    def models(self, config: ModelConfig) -> Iterator[NeededModel]:
        yield from detector_models(config)
        yield NeededModel(config.segmenter, "segmenter", SEGMENTER_TYPES)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {
            "labeler": self.kind,
            **detector_identity(config),
            **segmenter_identity(config),
            "prompts_per_caption": config.prompts_per_caption,
        }

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.models.labelers.on_device import labeler_on_device
        from labeler.models.loading import load_grounded_sam

        return labeler_on_device(load_grounded_sam(config), config)


def detector_models(config: ModelConfig) -> Iterator[NeededModel]:
    """The checkpoints that ``load_detector`` loads."""
    yield NeededModel(config.detector, "detector", DETECTOR_TYPES)
    if (verifier := verifier_of(config)) is not None:
        yield NeededModel(verifier, "verify", CONTRASTIVE)


def detector_identity(config: ModelConfig) -> dict[str, Any]:
    """What decides the boxes of a detector and their scores."""
    verifier = verifier_of(config)
    return {
        "detector": model_identity(config.detector),
        "prompt_score": config.prompt_score,
        "verify": model_identity(verifier) if verifier is not None else None,
        **_image_size("detector_image_size", config.detector_image_size),
    }


def segmenter_identity(config: ModelConfig) -> dict[str, Any]:
    """What decides the masks of a segmenter."""
    return {
        "segmenter": model_identity(config.segmenter),
        **_image_size("segmenter_image_size", config.segmenter_image_size),
    }


def _image_size(name: str, side: int | None) -> dict[str, int]:
    return {} if side is None else {name: side}
