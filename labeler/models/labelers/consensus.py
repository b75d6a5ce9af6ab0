"""Consensus: several views of an image, or several labelers, whose candidates are fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from labeler.geometry.placed_masks import rle_mirrored
from labeler.models.labelers.fusion import fuse
from labeler.models.labelers.labeler import Labeler, LabelRequest, detector_of
from labeler.records import Instance

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Detections, Detector, Image, Prompts


@dataclass(frozen=True)
class ConsensusLabeler:
    """Asks every labeler for every view of an image, and fuses what they find; see ``labeler.models.labelers.fusion``.

    Attributes:
        labelers: prompts must suit all of them.
        mirror: the image mirrored left to right is a second view.
        max_instances: maximum number of fused candidates per image, the best ones.
    """

    labelers: tuple[Labeler, ...]
    mirror: bool
    max_instances: int

    @property
    def detector(self) -> Detector | None:
        detectors = [detector for labeler in self.labelers if (detector := detector_of(labeler))]
        return _Detectors(tuple(detectors)) if len(detectors) > 1 else next(iter(detectors), None)

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        views = [labeler.label(requests) for labeler in self.labelers]
        if self.mirror:
            mirrored = [replace(request, pixels=np.ascontiguousarray(request.pixels[:, ::-1])) for request in requests]
            views += [[list(map(_mirrored, found)) for found in each.label(mirrored)] for each in self.labelers]
        return [fuse(of_image)[: self.max_instances] for of_image in zip(*views, strict=True)]


@dataclass(frozen=True)
class _Detectors:
    """The first of several detectors, for prompts that suit them all."""

    detectors: tuple[Detector, ...]

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        return self.detectors[0].detect(images, prompts)

    def forward_passes(self, prompts: Prompts) -> int:
        first, *_ = (detector.forward_passes(prompts) for detector in self.detectors)
        return first


def _mirrored(instance: Instance) -> Instance:
    width = instance.rle["size"][1]
    x1, y1, x2, y2 = instance.box_xyxy
    return replace(instance, box_xyxy=(width - x2, y1, width - x1, y2), rle=rle_mirrored(instance.rle))
