"""The thresholds of the quality gate; ``labeler.quality`` applies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from labeler.errors import UsageError
from labeler.setting import check, setting
from labeler.sizes import shown

Score = Literal["joint", "detector", "mask"]
GROUP = "quality gate"


def _threshold(default: float | None, help: str, *names: str) -> Any:
    return setting(default, help, names=names, metavar="X", group=GROUP, least=0, most=1)


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Thresholds of the gate; 0 switches any of them off. The defaults suit Grounding DINO with SAM.

    Attributes:
        score: the score that ranks overlapping instances and is compared with ``min_joint_score`` and ``accept_score``:
            ``joint`` (detector × mask × agreement), ``detector`` or ``mask``.
        min_score: detector score below which an instance is rejected. A class's ``min_score`` in the ontology replaces
            it. Classic Grounding DINO pipelines use a box threshold of 0.35 on the best token; the mean over a
            prompt's tokens is a little lower.
        min_joint_score: joint score (or other ``score``) below which an instance is rejected.
        accept_score: joint score (or other ``score``) from which an instance that is not rejected is accepted; below it
            goes to review.
        min_mask_score: the segmenter's IoU estimate.
        min_stability: SAM's stability score.
        min_area: mask area in pixels.
        max_area_share: mask area as a share of the image; a mask of nearly the whole image is mostly a failed box.
        min_box_iou: IoU of the detector's box and the mask's tight box.
        duplicate_iou: mask IoU from which the lower-ranked of two instances of one class is a duplicate.
        cross_class_iou: the same for two instances of different classes.
        contained_share: share of a mask that lies inside a higher-ranked mask of its class, from which it is taken for
            a part of that object.
        group_share: share of a mask that two or more others of its class cover together, from which it is taken for one
            mask over several objects; see ``labeler.groups``.
        class_accept_scores: per-class ``accept_score``, by class name. It replaces ``accept_score`` and the class's
            ``min_score`` in the ontology; where ``min_score`` or ``min_joint_score`` is higher, it replaces that too.
        min_agreement: share of views and labelers that found an instance. It is 1 for all instances unless
            ``--views`` or ``--also`` was given.
    """

    score: Score = setting(
        "joint",
        "score that ranks and accepts instances; joint: detector × mask × agreement",
        group=GROUP,
        choices=get_args(Score),
    )
    min_score: float = _threshold(0.30, "reject below this detector score; a class's min_score overrides it")
    min_joint_score: float = _threshold(0.20, "reject below this joint score (or the score chosen with --score)")
    accept_score: float = _threshold(
        0.30,
        "accept from this joint score (or the score chosen with --score); instances below it that are not rejected go "
        "to review",
    )
    min_mask_score: float = _threshold(0.50, "reject below this IoU estimate of the segmenter")
    min_stability: float = _threshold(0.60, "reject below this stability score")
    min_area: int = setting(16, "reject masks with fewer pixels", metavar="N", group=GROUP, least=0)
    max_area_share: float = _threshold(0.95, "reject masks that cover more than this share of the image")
    min_box_iou: float = _threshold(0.30, "reject if the detector's box and the mask's box have a lower IoU")
    duplicate_iou: float = _threshold(0.80, "reject the lower-scored of two masks of one class with this IoU or more")
    cross_class_iou: float = _threshold(
        0.90, "reject the lower-scored of two masks of different classes with this IoU or more"
    )
    contained_share: float = _threshold(
        0.95, "reject a mask if this share of it lies inside a higher-scored mask of its class"
    )
    group_share: float = _threshold(
        0.80, "reject a mask if two or more separate masks of its class cover this share of it and score like it"
    )
    class_accept_scores: Mapping[str, float] = setting(
        {},
        "--accept-score of one class, which also overrides its min_score; repeat for each class",
        names=("--class-accept-score",),
        metavar="NAME=X",
        group=GROUP,
        least=0,
        most=1,
    )
    min_agreement: float = _threshold(
        0.0, "reject what a smaller share of the views and labelers found; see --views and --also"
    )

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises:
            UsageError: a value is of the wrong type or out of its range; the message names its flag.
        """
        check(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityConfig:
        """The inverse of ``to_dict``; missing names keep their defaults.

        Raises:
            UsageError: an unknown name, or a value out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"quality: unknown setting {shown(name)}; known are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, as JSON can hold them."""
        return asdict(self)

    def with_changes(self, given: Mapping[str, Any]) -> QualityConfig:
        """A copy with other values, by field name.

        A common accept score that is given overrides those of single classes, except those that are given with it.

        Raises:
            UsageError: a value is of the wrong type or out of its range.
        """
        changed = {each.name: given[each.name] for each in fields(self) if each.name in given}
        if "accept_score" in changed:
            changed.setdefault("class_accept_scores", {})
        return replace(self, **changed)
