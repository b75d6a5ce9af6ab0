"""The quality gate: which candidates go into the dataset, which to a person, which nowhere, and why.

1. A candidate is rejected if it falls short of a minimum, is too large, covers several objects that have masks of their
   own, or overlaps a better candidate too much.
2. The others are accepted if their score reaches the accept score, and go to review if it does not.
3. A class may have its own accept score, to which higher minimum scores are lowered, or else its own ``min_score``.

A filter is a function of the candidates of a record and the indices of those that are still in the running; it returns
those that it drops, each with a reason. Filters run one after the other, cheap ones first. A new filter is one function
and one line in ``filters``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

import numpy as np

from labeler.errors import UsageError
from labeler.gate_candidates import Candidates
from labeler.geometry.masks import mask_containment, mask_iou
from labeler.groups import find_groups
from labeler.quality_config import QualityConfig, Score
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

Verdict = Literal["accept", "review", "reject"]
VERDICTS: tuple[Verdict, ...] = ("accept", "review", "reject")
BY_HAND = "by hand"  # the reason why an instance that a person rejected is dropped


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gate's verdict on one instance.

    Attributes:
        reason: empty for ``accept``, else a short stable phrase.
        by_hand: a person decided, not the thresholds.
    """

    verdict: Verdict
    reason: str = ""
    by_hand: bool = False


Filter = Callable[[Candidates, Sequence[int]], dict[int, str]]


def ranking_score(instance: Instance, score: Score) -> float:
    """The score that the gate ranks and accepts ``instance`` by."""
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

    A person's verdict overrides every score and filter; only instances of removed classes are always rejected. An
    instance that was rejected by hand drops no other; one that was accepted by hand ranks before all others where
    instances overlap.

    Args:
        record: one image; a record with an error has no instances, and so no judgements.
        config: the thresholds.
        classes: the ontology's classes, by class id.
        by_hand: a person's verdicts, by index in the record.

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
    removed = {index for index, item in enumerate(record.instances) if classes[item.class_id].removed}
    by_hand = {index: verdict for index, verdict in (by_hand or {}).items() if index not in removed}
    accepted = {index for index, verdict in by_hand.items() if verdict == "accept"}
    reasons = {index: BY_HAND for index in by_hand if index not in accepted}
    reasons |= dict.fromkeys(removed, "class removed")
    candidates = Candidates(record)
    for find_drops in filters(config, limits, accepted):
        kept = [index for index in range(len(record.instances)) if index not in reasons]
        reasons |= {index: why for index, why in find_drops(candidates, kept).items() if index not in accepted}
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
    """The score thresholds of one class; see ``QualityConfig``."""

    min_score: float
    min_joint_score: float
    accept_score: float


def effective_thresholds(config: QualityConfig, spec: ClassSpec) -> EffectiveThresholds:
    """The score thresholds that apply to a class."""
    own = config.class_accept_scores.get(spec.name)
    if own is not None:
        return EffectiveThresholds(min(config.min_score, own), min(config.min_joint_score, own), own)
    min_score = config.min_score if spec.min_score is None else spec.min_score
    return EffectiveThresholds(min_score, config.min_joint_score, config.accept_score)


def without_repeats(config: QualityConfig, classes: Sequence[ClassSpec]) -> QualityConfig:
    """``config`` without per-class accept scores that are equal to the common one and change nothing."""
    bare = replace(config, class_accept_scores={})
    repeats = {spec.name for spec in classes if effective_thresholds(config, spec) == effective_thresholds(bare, spec)}
    own = {name: score for name, score in config.class_accept_scores.items() if name not in repeats}
    return replace(config, class_accept_scores=own)


def filters(
    config: QualityConfig, limits: Mapping[int, EffectiveThresholds], first: Collection[int] = frozenset()
) -> list[Filter]:
    """The gate's filters in the order they run.

    Args:
        limits: by class id.
        first: indices of the instances that rank before all others where instances overlap.
    """

    def low_score(item: Instance) -> bool:
        return item.score < limits[item.class_id].min_score

    def low_joint_score(item: Instance) -> bool:
        return ranking_score(item, config.score) < limits[item.class_id].min_joint_score

    return [
        _each("empty mask", lambda item: item.area == 0),
        _each("low score", low_score),
        _each("low joint score" if config.score == "joint" else "low ranking score", low_joint_score),
        _each("low mask score", lambda item: item.mask_score < config.min_mask_score),
        _each("unstable", lambda item: item.stability < config.min_stability),
        _each("low agreement", lambda item: item.agreement < config.min_agreement),
        _each("too small", lambda item: item.area < config.min_area),
        _too_large(config.max_area_share),
        _box_and_mask_disagree(config.min_box_iou),
        _covering_others(config.group_share, config.score, first),  # first, since what a group overlaps must not suffer
        _overlapping("duplicate", config.duplicate_iou, config.score, first),
        _overlapping("duplicate of another class", config.cross_class_iou, config.score, first, same_class=False),
        _overlapping("contained", config.contained_share, config.score, first, contained=True),
    ]


def _each(reason: str, fails: Callable[[Instance], bool]) -> Filter:
    """A filter that looks at one instance at a time."""

    def find_drops(found: Candidates, kept: Sequence[int]) -> dict[int, str]:
        return {index: reason for index in kept if fails(found.instances[index])}

    return find_drops


def _too_large(share: float) -> Filter:
    """A filter that drops masks over more than ``share`` of the image; 0 switches it off."""

    def find_drops(found: Candidates, kept: Sequence[int]) -> dict[int, str]:
        pixels = found.record.width * found.record.height
        return {index: "too large" for index in kept if 0 < share < found.instances[index].area / pixels}

    return find_drops


def _box_and_mask_disagree(least: float) -> Filter:
    """A filter that drops instances whose box and mask have a lower IoU than ``least``."""

    def find_drops(found: Candidates, kept: Sequence[int]) -> dict[int, str]:
        return {index: "box and mask disagree" for index in kept if found.box_ious[index] < least}

    return find_drops


def _covering_others(share: float, score: Score, first: Collection[int]) -> Filter:
    """A filter that drops masks over a group of others of their class; see ``labeler.groups``. 0 switches it off.

    Args:
        first: indices of the instances that always stay; each counts as a good member of a group.
    """

    def find_drops(found: Candidates, kept: Sequence[int]) -> dict[int, str]:
        record = found.record
        groups: list[int] = []
        still_there = set(kept)
        for class_id in {record.instances[index].class_id for index in kept} if share else ():
            of_class = [index for index, item in enumerate(record.instances) if item.class_id == class_id]
            groups += (
                of_class[group]
                for group in find_groups(
                    [record.instances[index].rle for index in of_class],
                    found.areas[of_class],
                    found.shared[np.ix_(of_class, of_class)],
                    [inf if index in first else ranking_score(record.instances[index], score) for index in of_class],
                    solid=[index in still_there for index in of_class],
                    candidates=[n for n, index in enumerate(of_class) if index in still_there and index not in first],
                    coverage=share,
                )
            )
        return dict.fromkeys(groups, "group of others")

    return find_drops


def _overlapping(
    reason: str,
    threshold: float,
    score: Score,
    first: Collection[int],
    *,
    same_class: bool = True,
    contained: bool = False,
) -> Filter:
    """A filter that drops instances that overlap a better one by ``threshold`` or more; 0 switches it off.

    Greedy non-maximum suppression: instances are ranked by ``score``, ties by index, and only an instance that stays
    can drop another. Those at the indices ``first`` rank before the others, and always stay. Overlap is mask IoU, or
    with ``contained`` the share of the lower-ranked mask that lies inside the better one.
    """

    def find_drops(found: Candidates, kept: Sequence[int]) -> dict[int, str]:
        record = found.record
        if len(kept) < 2 or not threshold:
            return {}
        ranked = sorted(
            kept, key=lambda index: (index not in first, -ranking_score(record.instances[index], score), index)
        )
        rles = [record.instances[index].rle for index in ranked]
        rank_of = np.full(len(record.instances), -1)
        rank_of[ranked] = np.arange(len(ranked))
        # Masks overlap no more than their tight boxes do, so masks are compared only where the boxes overlap enough.
        one, other, shared = found.pairs
        classes = np.array([item.class_id for item in record.instances])
        whole = found.areas[one] if contained else np.maximum(found.areas[one], found.areas[other])
        possible = (shared / np.maximum(whole, 1) >= threshold) & ((classes[one] == classes[other]) == same_class)
        ranks, better = rank_of[one[possible]], rank_of[other[possible]]
        pairs = defaultdict[int, list[int]](list)  # the better ones, by rank
        for rank, before in zip(ranks.tolist(), better.tolist(), strict=True):
            if 0 <= before < rank:
                pairs[rank].append(before)
        overlap = mask_containment if contained else mask_iou
        stays = [True] * len(ranked)
        for rank in sorted(pairs):
            others = [rles[before] for before in pairs[rank] if stays[before]]
            if others and ranked[rank] not in first:
                stays[rank] = bool(overlap([rles[rank]], others).max() < threshold)
        return {index: reason for index, stay in zip(ranked, stays, strict=True) if not stay}

    return find_drops
