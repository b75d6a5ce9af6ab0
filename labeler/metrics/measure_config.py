"""How labels are measured against ground truth; ``labeler.metrics.measures`` does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from labeler.quality_config import Score
from labeler.setting import check, setting

GROUP = "measures"


@dataclass(frozen=True, slots=True)
class MeasureConfig:
    """How labels are measured.

    Attributes:
        rank_by: what ranks candidates: ``joint``, ``detector`` or ``mask`` score.
        iou: mask IoU from which an accepted instance matches an object of the ground truth.
        band_width, band_weight: of the tolerant IoU, see ``tolerant_iou``; without width there is none.
        image_limit: of AP, see ``CocoAccumulator``.
    """

    rank_by: Score = setting(
        "joint",
        "score that ranks candidates for AP",
        choices=get_args(Score),
        group=GROUP,
        unset="the gate's --score",
    )
    iou: float = setting(0.5, "mask IoU that makes a match", metavar="P", group=GROUP, above=0, most=1)
    band_width: int = setting(
        0,
        "for ground truth with imprecise edges: give less weight to N pixels on each side of its contour",
        metavar="N",
        group=GROUP,
        least=0,
    )
    band_weight: float = setting(
        0.0, "weight of the pixels within --band-width", metavar="P", group=GROUP, least=0, most=1
    )
    image_limit: int | None = None

    def __post_init__(self) -> None:
        check(self)
