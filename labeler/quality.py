"""The quality gate: which candidates go into the dataset, which to a person, which nowhere, and why.

A filter is a function of a record and the positions still in the running; it names the ones it drops, each with a
reason. Filters run one after the other, cheap ones first. A new filter is one function and one line in ``filters``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from labeler.errors import UsageError
from labeler.masks import mask_containment, mask_iou, rle_area, rle_box_xyxy
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

Verdict = Literal["accept", "review", "reject"]
BY_HAND = "by hand"  # the reason of what a person rejected
Filter = Callable[[ImageRecord, Sequence[int]], dict[int, str]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of one instance.

    Attributes:
        reason: empty for ``accept``, else a short stable phrase.
        by_hand: a person decided, and not the thresholds.
    """

    verdict: Verdict
    reason: str = ""
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Thresholds of the gate; 0 switches any of them off. The defaults suit Grounding DINO with SAM.

    Attributes:
        min_score: detector score; a class's own ``min_score`` takes its place. Classic Grounding DINO pipelines put
            the box threshold at 0.35, but on the best token; the mean over a prompt's tokens is a little lower.
        min_joint_score: detector × mask score below which an instance is rejected.
        accept_score: joint score from which an instance is accepted; between the two it goes to review. Both joint
            thresholds are lowered in proportion for a class whose own ``min_score`` is below the general one.
        min_mask_score: the segmenter's IoU estimate.
        min_stability: SAM's stability score.
        min_area: pixels of the mask.
        max_area_share: mask area as a share of the image; a mask of nearly all of it is mostly a failed box.
        min_box_iou: IoU of the detector's box and the mask's tight box.
        duplicate_iou: mask IoU from which the lesser of two instances of one class is a duplicate.
        cross_class_iou: the same for two instances of different classes.
        contained_share: share of a mask inside a better one of its class, from which it is taken for a part of that.
        class_accept_scores: by class name, what takes the place of ``accept_score``; the class's own ``min_score`` is
            then not heeded. One below ``accept_score`` lowers ``min_score`` and ``min_joint_score`` in proportion.
    """

    min_score: float = 0.30
    min_joint_score: float = 0.20
    accept_score: float = 0.30
    min_mask_score: float = 0.50
    min_stability: float = 0.60
    min_area: int = 16
    max_area_share: float = 0.95
    min_box_iou: float = 0.30
    duplicate_iou: float = 0.80
    cross_class_iou: float = 0.90
    contained_share: float = 0.95
    class_accept_scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError: a value is of the wrong type or out of its range; the message names the field.
        """
        of_classes = dict(self.class_accept_scores or {})
        object.__setattr__(self, "class_accept_scores", of_classes)
        values = {**self.to_dict(), **{f"accept score of {name!r}": value for name, value in of_classes.items()}}
        del values["class_accept_scores"]
        for name, value in values.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if name == "min_area":
                if not number or value < 0 or value != int(value):
                    raise UsageError(f"quality: {name} must be a whole number of pixels, 0 or more, not {value!r}")
            elif not number or not 0 <= value <= 1:
                raise UsageError(f"quality: {name} must be a number from 0 to 1, not {value!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityConfig:
        """The inverse of ``to_dict``; what is left out keeps its default.

        Raises:
            UsageError: an unknown name, or a value out of its range.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise UsageError(f"quality: unknown setting {name!r}; known are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, as TOML and JSON can hold them."""
        return asdict(self)


def judge(
    record: ImageRecord,
    config: QualityConfig,
    classes: Sequence[ClassSpec],
    by_hand: Mapping[int, Literal["accept", "reject"]] | None = None,
) -> list[Judgement]:
    """A judgement for each of the record's instances, in their order.

    A person's word stands against every score and filter. What was rejected by hand drops no other instance; what was
    accepted by hand comes before all others where instances overlap.

    Args:
        record: one image; a record with an error has no instances, and so no judgements.
        config: the thresholds.
        classes: the ontology's, by class id.
        by_hand: a person's verdicts, by place in the record.

    Raises:
        UsageError: an instance is of a class that ``classes`` does not list.
    """
    class_ids = {item.class_id for item in record.instances}
    if unknown := {class_id for class_id in class_ids if not 0 <= class_id < len(classes)}:
        raise UsageError(
            f"{record.image_id}: class id {min(unknown)} is not among the ontology's {len(classes)} classes; "
            "use the ontology these images were labeled with"
        )
    scores = {class_id: score_thresholds(config, classes[class_id]) for class_id in class_ids}
    by_hand = by_hand or {}
    accepted = {index for index, verdict in by_hand.items() if verdict == "accept"}
    reasons = {index: BY_HAND for index in by_hand if index not in accepted}
    for keep_or_reason in filters(config, scores, accepted):
        kept = [index for index in range(len(record.instances)) if index not in reasons]
        reasons |= {index: why for index, why in keep_or_reason(record, kept).items() if index not in accepted}
    judgements = []
    for index, item in enumerate(record.instances):
        if index in by_hand:
            judgements.append(Judgement(by_hand[index], reasons.get(index, ""), by_hand=True))
        elif index in reasons:
            judgements.append(Judgement("reject", reasons[index]))
        elif item.joint_score < scores[item.class_id].accept_score:
            judgements.append(Judgement("review", "uncertain"))
        else:
            judgements.append(Judgement("accept"))
    return judgements


@dataclass(frozen=True, slots=True)
class ScoreThresholds:
    """What holds for one class; see ``QualityConfig``."""

    min_score: float
    min_joint_score: float
    accept_score: float


def score_thresholds(config: QualityConfig, spec: ClassSpec) -> ScoreThresholds:
    """What ``config`` comes to for a class."""
    accept, own = config.class_accept_scores.get(spec.name), spec.min_score
    if accept is not None:
        leniency = accept / config.accept_score if accept < config.accept_score else 1.0
        return ScoreThresholds(config.min_score * leniency, config.min_joint_score * leniency, accept)
    if own is None:
        return ScoreThresholds(config.min_score, config.min_joint_score, config.accept_score)
    leniency = own / config.min_score if own < config.min_score else 1.0
    return ScoreThresholds(own, config.min_joint_score * leniency, config.accept_score * leniency)


def filters(
    config: QualityConfig, scores: Mapping[int, ScoreThresholds], first: Collection[int] = frozenset()
) -> list[Filter]:
    """The gate's filters in the order they run.

    Args:
        scores: by class id.
        first: places in the record that come before all others in overlaps.
    """

    def low_score(record: ImageRecord, item: Instance) -> bool:
        return item.score < scores[item.class_id].min_score

    def low_joint_score(record: ImageRecord, item: Instance) -> bool:
        return item.joint_score < scores[item.class_id].min_joint_score

    def too_large(record: ImageRecord, item: Instance) -> bool:
        return 0 < config.max_area_share < item.area / (record.width * record.height)

    return [
        _each("empty mask", lambda record, item: item.area == 0),
        _each("low score", low_score),
        _each("low joint score", low_joint_score),
        _each("low mask score", lambda record, item: item.mask_score < config.min_mask_score),
        _each("unstable", lambda record, item: item.stability < config.min_stability),
        _each("too small", lambda record, item: item.area < config.min_area),
        _each("too large", too_large),
        _each("box and mask disagree", lambda record, item: _box_mask_iou(item) < config.min_box_iou),
        _overlapping("duplicate", config.duplicate_iou, first),
        _overlapping("duplicate of another class", config.cross_class_iou, first, same_class=False),
        _overlapping("contained", config.contained_share, first, contained=True),
    ]


def _each(reason: str, fails: Callable[[ImageRecord, Instance], bool]) -> Filter:
    """A filter that looks at one instance at a time."""

    def keep_or_reason(record: ImageRecord, kept: Sequence[int]) -> dict[int, str]:
        return {index: reason for index in kept if fails(record, record.instances[index])}

    return keep_or_reason


def _overlapping(
    reason: str, threshold: float, first: Collection[int], *, same_class: bool = True, contained: bool = False
) -> Filter:
    """A filter that drops what overlaps a better instance by ``threshold`` or more.

    Greedy, best joint score first and ties by position, as in non-maximum suppression: only an instance that itself
    stays can drop another. Those at the places ``first`` come before the rest, and stay. Overlap is mask IoU, or with
    ``contained`` the share of the lesser mask in the better one.
    """

    def keep_or_reason(record: ImageRecord, kept: Sequence[int]) -> dict[int, str]:
        if not threshold or len(kept) < 2:
            return {}
        ranked = sorted(kept, key=lambda index: (index not in first, -record.instances[index].joint_score, index))
        items = [record.instances[index] for index in ranked]
        rles = [item.rle for item in items]
        classes = np.array([item.class_id for item in items])
        # A mask overlaps another by no more than their tight boxes do: masks are compared only where that can suffice.
        boxes = np.array([rle_box_xyxy(rle) for rle in rles])
        areas = np.array([rle_area(rle) for rle in rles])
        sides = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
        shared = sides.clip(min=0).prod(axis=2)
        whole = areas[:, None] if contained else np.maximum(areas[:, None], areas)
        possible = (shared / np.maximum(whole, 1) >= threshold) & ((classes[:, None] == classes) == same_class)
        overlap = mask_containment if contained else mask_iou
        stays = np.ones(len(ranked), dtype=np.bool_)
        for place in range(1, len(ranked)):
            better = np.flatnonzero(possible[place, :place] & stays[:place])
            if better.size and ranked[place] not in first:
                stays[place] = overlap([rles[place]], [rles[other] for other in better]).max() < threshold
        return {index: reason for index, stay in zip(ranked, stays, strict=True) if not stay}

    return keep_or_reason


def _box_mask_iou(item: Instance) -> float:
    """IoU of the detector's box and the mask's tight box, both along pixel edges."""
    ax1, ay1, ax2, ay2 = item.box_xyxy
    bx1, by1, bx2, by2 = rle_box_xyxy(item.rle)
    shared = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    union = max(0.0, ax2 - ax1) * max(0.0, ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared / union if union else 0.0
