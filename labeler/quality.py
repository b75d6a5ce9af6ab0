"""The quality gate: which candidates go into the dataset, which to a person, which nowhere, and why.

A filter is a function of a record and the positions still in the running; it names the ones it drops, each with a
reason. Filters run one after the other, cheap ones first. A new filter is one function and one line in ``filters``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from labeler.errors import UsageError
from labeler.geometry.masks import mask_containment, mask_iou, rle_area, rle_box_xyxy
from labeler.quality_config import ClassThresholds as ClassThresholds
from labeler.quality_config import QualityConfig as QualityConfig
from labeler.quality_config import Score as Score
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

Verdict = Literal["accept", "review", "reject"]
VERDICTS: tuple[Verdict, ...] = ("accept", "review", "reject")
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


def ranking_score(instance: Instance, score: Score) -> float:
    """What the gate ranks and accepts ``instance`` by."""
    if score == "joint":
        return instance.joint_score
    return instance.score if score == "detector" else instance.mask_score


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
    limits = {class_id: effective_thresholds(config, classes[class_id]) for class_id in class_ids}
    by_hand = by_hand or {}
    accepted = {index for index, verdict in by_hand.items() if verdict == "accept"}
    reasons = {index: BY_HAND for index in by_hand if index not in accepted}
    for keep_or_reason in filters(config, limits, accepted):
        kept = [index for index in range(len(record.instances)) if index not in reasons]
        reasons |= {index: why for index, why in keep_or_reason(record, kept).items() if index not in accepted}
    judgements = []
    for index, item in enumerate(record.instances):
        if index in by_hand:
            judgements.append(Judgement(by_hand[index], reasons.get(index, ""), by_hand=True))
        elif index in reasons:
            judgements.append(Judgement("reject", reasons[index]))
        elif ranking_score(item, config.score) < limits[item.class_id].accept_score:
            judgements.append(Judgement("review", "uncertain"))
        else:
            judgements.append(Judgement("accept"))
    return judgements


@dataclass(frozen=True, slots=True)
class EffectiveThresholds:
    """What holds for one class; see ``QualityConfig``."""

    min_score: float
    min_joint_score: float
    accept_score: float
    min_mask_score: float
    min_stability: float
    duplicate_iou: float


def effective_thresholds(config: QualityConfig, spec: ClassSpec) -> EffectiveThresholds:
    """What ``config`` comes to for a class."""
    own = config.of_classes.get(spec.name, ClassThresholds())
    if own.accept_score is not None:
        leniency = own.accept_score / config.accept_score if own.accept_score < config.accept_score else 1.0
        scores = config.min_score * leniency, config.min_joint_score * leniency, own.accept_score
    elif spec.min_score is not None:
        leniency = spec.min_score / config.min_score if spec.min_score < config.min_score else 1.0
        scores = spec.min_score, config.min_joint_score * leniency, config.accept_score * leniency
    else:
        scores = config.min_score, config.min_joint_score, config.accept_score
    return EffectiveThresholds(
        *scores,
        min_mask_score=config.min_mask_score if own.min_mask_score is None else own.min_mask_score,
        min_stability=config.min_stability if own.min_stability is None else own.min_stability,
        duplicate_iou=config.duplicate_iou if own.duplicate_iou is None else own.duplicate_iou,
    )


def without_repeats(config: QualityConfig, classes: Sequence[ClassSpec]) -> QualityConfig:
    """``config`` without the values of classes that are equal to the general ones, so that these hold for them, too.

    It judges as before. An accept score of a class with a ``min_score`` stays, since it keeps that from being heeded.
    """
    specs = {spec.name: spec for spec in classes}
    of_classes = {}
    for class_name, own in config.of_classes.items():
        values = {name: value for name, value in asdict(own).items() if value != getattr(config, name)}
        if class_name in specs and specs[class_name].min_score is not None:
            values["accept_score"] = own.accept_score
        if any(value is not None for value in values.values()):
            of_classes[class_name] = ClassThresholds(**values)
    return replace(config, of_classes=of_classes)


def filters(
    config: QualityConfig, limits: Mapping[int, EffectiveThresholds], first: Collection[int] = frozenset()
) -> list[Filter]:
    """The gate's filters in the order they run.

    Args:
        limits: by class id.
        first: places in the record that come before all others in overlaps.
    """

    def low_score(record: ImageRecord, item: Instance) -> bool:
        return item.score < limits[item.class_id].min_score

    def low_joint_score(record: ImageRecord, item: Instance) -> bool:
        return ranking_score(item, config.score) < limits[item.class_id].min_joint_score

    def low_mask_score(record: ImageRecord, item: Instance) -> bool:
        return item.mask_score < limits[item.class_id].min_mask_score

    def unstable(record: ImageRecord, item: Instance) -> bool:
        return item.stability < limits[item.class_id].min_stability

    def too_large(record: ImageRecord, item: Instance) -> bool:
        return 0 < config.max_area_share < item.area / (record.width * record.height)

    duplicate_ious = {class_id: each.duplicate_iou for class_id, each in limits.items()}
    across, contained = dict.fromkeys(limits, config.cross_class_iou), dict.fromkeys(limits, config.contained_share)
    return [
        _each("empty mask", lambda record, item: item.area == 0),
        _each("low score", low_score),
        _each("low joint score" if config.score == "joint" else "low ranking score", low_joint_score),
        _each("low mask score", low_mask_score),
        _each("unstable", unstable),
        _each("too small", lambda record, item: item.area < config.min_area),
        _each("too large", too_large),
        _each("box and mask disagree", lambda record, item: _box_mask_iou(item) < config.min_box_iou),
        _overlapping("duplicate", duplicate_ious, config.score, first),
        _overlapping("duplicate of another class", across, config.score, first, same_class=False),
        _overlapping("contained", contained, config.score, first, contained=True),
    ]


def _each(reason: str, fails: Callable[[ImageRecord, Instance], bool]) -> Filter:
    """A filter that looks at one instance at a time."""

    def keep_or_reason(record: ImageRecord, kept: Sequence[int]) -> dict[int, str]:
        return {index: reason for index in kept if fails(record, record.instances[index])}

    return keep_or_reason


def _overlapping(
    reason: str,
    thresholds: Mapping[int, float],
    score: Score,
    first: Collection[int],
    *,
    same_class: bool = True,
    contained: bool = False,
) -> Filter:
    """A filter that drops what overlaps a better instance by its class's threshold (by class id; 0 is off) or more.

    Greedy, best ``score`` first and ties by position, as in non-maximum suppression: only an instance that itself
    stays can drop another. Those at the places ``first`` come before the rest, and stay. Overlap is mask IoU, or with
    ``contained`` the share of the lesser mask in the better one.
    """

    def keep_or_reason(record: ImageRecord, kept: Sequence[int]) -> dict[int, str]:
        if len(kept) < 2 or not any(thresholds.values()):
            return {}
        ranked = sorted(
            kept, key=lambda index: (index not in first, -ranking_score(record.instances[index], score), index)
        )
        items = [record.instances[index] for index in ranked]
        least = np.array([thresholds[item.class_id] or np.inf for item in items])
        rles = [item.rle for item in items]
        classes = np.array([item.class_id for item in items])
        # A mask overlaps another by no more than their tight boxes do: masks are compared only where that can suffice.
        boxes = np.array([rle_box_xyxy(rle) for rle in rles])
        areas = np.array([rle_area(rle) for rle in rles])
        sides = np.minimum(boxes[:, None, 2:], boxes[:, 2:]) - np.maximum(boxes[:, None, :2], boxes[:, :2])
        shared = sides.clip(min=0).prod(axis=2)
        whole = areas[:, None] if contained else np.maximum(areas[:, None], areas)
        possible = (shared / np.maximum(whole, 1) >= least[:, None]) & ((classes[:, None] == classes) == same_class)
        overlap = mask_containment if contained else mask_iou
        stays = np.ones(len(ranked), dtype=np.bool_)
        for place in range(1, len(ranked)):
            better = np.flatnonzero(possible[place, :place] & stays[:place])
            if better.size and ranked[place] not in first:
                stays[place] = overlap([rles[place]], [rles[other] for other in better]).max() < least[place]
        return {index: reason for index, stay in zip(ranked, stays, strict=True) if not stay}

    return keep_or_reason


def _box_mask_iou(item: Instance) -> float:
    """IoU of the detector's box and the mask's tight box, both along pixel edges."""
    ax1, ay1, ax2, ay2 = item.box_xyxy
    bx1, by1, bx2, by2 = rle_box_xyxy(item.rle)
    shared = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    union = max(0.0, ax2 - ax1) * max(0.0, ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - shared
    return shared / union if union else 0.0
