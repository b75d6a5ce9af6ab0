"""``--labeler sam3``: SAM 3 makes boxes, scores and masks of the prompts by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.models.config import ModelConfig
from labeler.models.identity import model_identity
from labeler.models.kinds.kind import NeededModel
from labeler.models.loading import SAM3_TYPES

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler

CHECKPOINT = "facebook/sam3"


@dataclass(frozen=True)
class Sam3Kind:
    """See ``labeler.models.labelers.sam3``. The detector of the ``ModelConfig`` is its one model."""

    kind: ClassVar[str] = "sam3"
    about: ClassVar[str] = "SAM 3 finds the objects of each prompt with their masks, in one model"
    flags: ClassVar[tuple[str, ...]] = ("--detector",)

    def models(self, config: ModelConfig) -> Iterator[NeededModel]:
        yield NeededModel(config.detector, "detector", SAM3_TYPES)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {"labeler": self.kind, "detector": model_identity(config.detector)}

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.models.labelers.on_device import labeler_on_device
        from labeler.models.loading import load_sam3

        return labeler_on_device(load_sam3(config), config)
