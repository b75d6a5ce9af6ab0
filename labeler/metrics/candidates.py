"""Candidates beside the truth, as columns: the gate and the matching can be run again at other thresholds in no time.

Every overlap of masks is computed once. What the gate drops for other reasons than scores and overlaps is left out from
the start, by the gate itself, so that only its scores and greedy suppression are told again here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.masks import mask_containment, mask_iou
from labeler.ground_truth import GroundTruthImage
from labeler.quality import QualityConfig, Verdict, judge, ranking_score
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

MATCH_IOU = 0.5
LEAST_OVERLAP = 0.3  # no lower threshold of suppression is tried
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Candidates that overlap: ``lesser`` and ``better`` are their places, int64 (m,), ``overlap`` float64 (m,)."""

    lesser: Ints
    better: Ints
    overlap: Floats

    def suppressed(self, alive: Bools, threshold: float | Floats) -> Bools:
        """What stays of ``alive`` when the lesser of two that overlap by ``threshold`` goes; 0 is off.

        ``threshold`` is one for all or each pair's, float64 (m,).

        Greedy: only what stays itself drops another. Each round settles those one step further down a chain.
        """
        if not np.any(threshold):
            return alive
        reaches = (self.overlap >= threshold) & np.not_equal(threshold, 0)
        live = alive[self.lesser] & alive[self.better] & reaches
        lesser, better = self.lesser[live], self.better[live]
        stays = alive
        while True:
            settled = alive.copy()
            settled[lesser[stays[better]]] = False
            if np.array_equal(settled, stays):
                return settled
            stays = settled


@dataclass(frozen=True)
class Candidates:
    """One row a candidate, image by image, in each the best score first and ties by place, as the gate ranks.

    Attributes:
        image, group: int64 (n,); images are numbered as they came.
        score, mask_score, stability: float64 (n,); the first is what the gate ranks by.
        accepted: bool (n,), what is in the dataset by the thresholds in force.
        neutral: bool (n,), is no error without a match: in a crowd, or of a class not looked for in that image.
        duplicates, across, contained: what may suppress what, within a class, across classes and by containment.
        contained_share: threshold of the last.
        rounds: (candidates, objects) that overlap by ``MATCH_IOU``, int64 (m,) each. Round by round an image's next
            candidate of a group picks; a candidate's objects come best overlap first.
        true: int64 (images, groups), the objects to be found.
    """

    image: Ints
    group: Ints
    score: Floats
    mask_score: Floats
    stability: Floats
    accepted: Bools
    neutral: Bools
    duplicates: Pairs
    across: Pairs
    contained: Pairs
    contained_share: float
    rounds: tuple[tuple[Ints, Ints], ...]
    objects: int
    true: Ints

    def surviving(self, alive: Bools, duplicate_iou: Floats, cross_class_iou: float) -> Bools:
        """What the gate's suppression leaves of ``alive``, bool (n,); ``duplicate_iou`` is of each group."""
        stays = self.duplicates.suppressed(alive, duplicate_iou[self.group[self.duplicates.lesser]])
        stays = self.across.suppressed(stays, cross_class_iou)
        return self.contained.suppressed(stays, self.contained_share)

    def outranked(self, alive: Bools, duplicate_iou: Floats, cross_class_iou: float) -> Bools:
        """Which are duplicates of another class's that stays of ``alive``, bool (n,)."""
        stays = self.duplicates.suppressed(alive, duplicate_iou[self.group[self.duplicates.lesser]])
        stays = self.across.suppressed(stays, cross_class_iou)
        drops = stays[self.across.better] & (self.across.overlap >= (cross_class_iou or math.inf))
        outranked = np.zeros(len(alive), dtype=np.bool_)
        outranked[self.across.lesser[drops]] = True
        return outranked

    def of_group(self, group: int, alive: Bools) -> Candidates:
        """Those of ``alive`` in one group by itself, which then is group 0; nothing of another class is near."""
        rows = np.flatnonzero((self.group == group) & alive)
        place = np.full(len(alive), -1)
        place[rows] = np.arange(len(rows))

        def kept(pairs: Pairs) -> Pairs:
            both = (place[pairs.lesser] >= 0) & (place[pairs.better] >= 0)
            return Pairs(place[pairs.lesser[both]], place[pairs.better[both]], pairs.overlap[both])

        rounds = [(place[found], true) for found, true in self.rounds]
        rounds = [(found[found >= 0], true[found >= 0]) for found, true in rounds]
        columns = {
            name: getattr(self, name)[rows]
            for name in ("image", "score", "mask_score", "stability", "accepted", "neutral")
        }
        return replace(
            self,
            **columns,
            group=np.zeros(len(rows), dtype=np.int64),
            duplicates=kept(self.duplicates),
            across=_pairs([]),
            contained=kept(self.contained),
            rounds=tuple(each for each in rounds if len(each[0])),
            true=self.true[:, [group]],
        )

    def hits(self, accepted: Bools) -> Bools:
        """Which of ``accepted`` meet an object, bool (n,); see ``labeler.ground_truth.match_masks``.

        A candidate's outcome hangs on better ones of its image and group alone: accepting fewer, from the low end,
        changes none of the others.
        """
        hits = np.zeros(len(accepted), dtype=np.bool_)
        free = np.ones(self.objects, dtype=np.bool_)
        for candidates, objects in self.rounds:
            can = accepted[candidates] & free[objects]
            candidates, objects = candidates[can], objects[can]
            first = np.ones(len(candidates), dtype=np.bool_)
            first[1:] = candidates[1:] != candidates[:-1]
            hits[candidates[first]] = True
            free[objects[first]] = False
        return hits

    def counts(self, accepted: Bools) -> Ints:
        """Hits, accepted ones that count and objects, int64 (3, images, groups)."""
        hits = self.hits(accepted)
        cells = self.image * self.true.shape[1] + self.group
        tallies = [
            np.bincount(cells[chosen], minlength=self.true.size).reshape(self.true.shape)
            for chosen in (hits, hits | (accepted & ~self.neutral))
        ]
        return np.stack([*tallies, self.true]).astype(np.int64)


def collect(
    pairs: Iterable[tuple[ImageRecord, GroundTruthImage]],
    classes: Sequence[ClassSpec],
    quality: QualityConfig,
    group_of: Sequence[int],
    known: Collection[int],
    written: tuple[Verdict, ...] = ("accept",),
) -> Candidates:
    """The candidates of ``pairs``.

    Args:
        pairs: images as they were labeled and as they are, of one size; class ids of the truth are groups.
        classes: the ontology's.
        quality: the thresholds in force.
        group_of: the group of each of ``classes``: of one group are those that are one class in the truth.
        known: groups that the truth has; of the others nothing is known, and nothing they find is an error.
        written: verdicts that bring an instance into the dataset now.
    """
    of_scores = ("min_score", "min_joint_score", "accept_score", "min_mask_score", "min_stability")
    of_overlaps = ("duplicate_iou", "cross_class_iou", "contained_share")
    off: dict[str, Any] = dict.fromkeys((*of_scores, *of_overlaps), 0)
    open_gate = replace(quality, **off, of_classes={})
    bare = [replace(each, min_score=None) for each in classes]
    columns = _Columns(group_of, known, quality)
    for record, truth in pairs:
        passed = [judgement.verdict == "accept" for judgement in judge(record, open_gate, bare)]
        accepted = [judgement.verdict in written for judgement in judge(record, quality, classes)]
        ranked = sorted(
            (place for place, passes in enumerate(passed) if passes),
            key=lambda place: (-ranking_score(record.instances[place], quality.score), place),
        )
        columns.add([record.instances[place] for place in ranked], [accepted[place] for place in ranked], truth)
    return columns.joined()


class _Columns:
    """Rows of ``Candidates`` as they come."""

    def __init__(self, group_of: Sequence[int], known: Collection[int], quality: QualityConfig) -> None:
        self._group_of = group_of
        self._groups = max(group_of) + 1
        self._known = known
        self._quality = quality
        self._least = min(LEAST_OVERLAP, quality.duplicate_iou or 1.0, quality.cross_class_iou or 1.0)
        self._rows: list[tuple[int, int, float, float, float, bool, bool]] = []
        self._duplicates: list[tuple[int, int, float]] = []
        self._across: list[tuple[int, int, float]] = []
        self._contained: list[tuple[int, int, float]] = []
        self._rounds: list[tuple[list[int], list[int]]] = []
        self._objects = 0
        self._true: list[Ints] = []

    def add(self, found: Sequence[Instance], accepted: Sequence[bool], truth: GroundTruthImage) -> None:
        """An image; ``found`` comes best first."""
        first = len(self._rows)
        self._pair(found, first)
        image, neutral = len(self._true), self._match(found, first, truth)
        for item, passes, spared in zip(found, accepted, neutral, strict=True):
            scores = (ranking_score(item, self._quality.score), item.mask_score, item.stability)
            self._rows.append((image, self._group_of[item.class_id], *scores, passes, spared))

    def _pair(self, found: Sequence[Instance], first: int) -> None:
        rles = [item.rle for item in found]
        overlaps = np.tril(mask_iou(rles, rles), -1)
        for lesser, better in zip(*np.nonzero(overlaps), strict=True):
            overlap = float(overlaps[lesser, better])
            row = (first + int(lesser), first + int(better))
            same = found[lesser].class_id == found[better].class_id
            if overlap >= self._least:
                (self._duplicates if same else self._across).append((*row, overlap))
            if not same:
                continue
            both = found[lesser].area + found[better].area
            if overlap * both / (1 + overlap) / found[lesser].area > self._quality.contained_share - 1e-6:
                share = float(mask_containment([rles[lesser]], [rles[better]])[0, 0])
                self._contained.append((*row, share))

    def _match(self, found: Sequence[Instance], first: int, truth: GroundTruthImage) -> NDArray[np.bool_]:
        """Whether each of ``found`` is no error without a match."""
        neutral = np.zeros(len(found), dtype=np.bool_)
        single_ids = np.array([item.class_id for item in truth.instances if not item.crowd], dtype=np.int64)
        self._true.append(np.bincount(single_ids, minlength=self._groups))
        groups = [self._group_of[item.class_id] for item in found]
        for group in sorted(set(groups)):
            places = [place for place, of_place in enumerate(groups) if of_place == group]
            objects = [each for each in truth.instances if each.class_id == group]
            single = [each.rle for each in objects if not each.crowd]
            if group not in self._known or group in truth.not_exhaustive or not truth.looked_for(group):
                neutral[places] = True
            rles = [found[place].rle for place in places]
            if len(single) < len(objects):
                in_crowd = mask_containment(rles, [each.rle for each in objects if each.crowd]).max(axis=1) >= MATCH_IOU
                neutral[places] |= in_crowd
            turn = 0
            for place, overlaps in zip(places, mask_iou(rles, single), strict=True):
                meets = np.flatnonzero(overlaps >= MATCH_IOU)
                if not meets.size:
                    continue
                if turn == len(self._rounds):
                    self._rounds.append(([], []))
                meets = meets[np.argsort(-overlaps[meets], kind="stable")]
                self._rounds[turn][0].extend([first + place] * len(meets))
                self._rounds[turn][1].extend((self._objects + meets).tolist())
                turn += 1
            self._objects += len(single)
        return neutral

    def joined(self) -> Candidates:
        columns: list[Sequence[float]] = list(zip(*self._rows, strict=True)) if self._rows else [()] * 7
        return Candidates(
            image=np.array(columns[0], dtype=np.int64),
            group=np.array(columns[1], dtype=np.int64),
            score=np.array(columns[2], dtype=np.float64),
            mask_score=np.array(columns[3], dtype=np.float64),
            stability=np.array(columns[4], dtype=np.float64),
            accepted=np.array(columns[5], dtype=np.bool_),
            neutral=np.array(columns[6], dtype=np.bool_),
            duplicates=_pairs(self._duplicates),
            across=_pairs(self._across),
            contained=_pairs(self._contained),
            contained_share=self._quality.contained_share,
            rounds=tuple((np.array(found), np.array(true)) for found, true in self._rounds),
            objects=self._objects,
            true=np.array(self._true, dtype=np.int64).reshape(-1, self._groups),
        )


def _pairs(rows: Sequence[tuple[int, int, float]]) -> Pairs:
    columns: list[Sequence[float]] = list(zip(*rows, strict=True)) if rows else [()] * 3
    return Pairs(np.array(columns[0], np.int64), np.array(columns[1], np.int64), np.array(columns[2], np.float64))
