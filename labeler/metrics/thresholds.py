"""Thresholds of the gate that suit a truth best, and what they are likely to gain on other images.

First those that all classes share, on mask score, stability and the overlap of duplicates, together with an accept
score for each class, from which its instances are accepted. Since suppression and matching go from the best score
down, what is accepted at an accept score is the upper part of one ranking: one pass tells the outcome at every distinct
score. The others climb by coordinate ascent over steps, each with the accept scores at their best. Then each class
climbs on by itself, and leaves the shared thresholds where it gains more than chance would give it.

A class of few objects takes the thresholds that are best for all classes taken together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from labeler.metrics.candidates import LEAST_OVERLAP, Bools, Candidates, Floats, Ints
from labeler.quality import QualityConfig

STEPS = 40  # values tried of a threshold on mask score or stability
OVERLAPS = np.round(np.arange(LEAST_OVERLAP, 0.99, 0.025), 3)
OWN_GAIN = 0.5  # objects, by √n: the most that one standard deviation of n outcomes comes to


@dataclass(frozen=True, slots=True)
class Counts:
    """Accepted instances against the truth."""

    hits: int
    found: int
    true: int

    @property
    def precision(self) -> float:
        return self.hits / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        return self.hits / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.hits / (self.found + self.true) if self.hits else 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """What a class's threshold is to reach: the highest F1, or the highest recall at a wanted ``precision``."""

    precision: float | None = None

    def value(self, hits: Ints, found: Ints, true: Ints) -> Floats:
        """How good each outcome is; 0 or less for one that is no use."""
        f1_or_hits: Floats = (
            2 * hits / np.maximum(found + true, 1)
            if self.precision is None
            else np.where(hits >= self.precision * found - 1e-9, hits, -1.0)
        )
        return f1_or_hits


class Own(NamedTuple):
    """Thresholds of one class, as in ``ClassThresholds``."""

    min_mask_score: float
    min_stability: float
    duplicate_iou: float


class Limits(NamedTuple):
    """Thresholds besides the accept scores, as in ``QualityConfig``; ``of_groups`` have their own."""

    min_mask_score: float
    min_stability: float
    duplicate_iou: float
    cross_class_iou: float
    of_groups: Mapping[int, Own] = MappingProxyType({})

    def by_group(self, groups: int) -> Floats:
        """What holds for each group, float64 (3, groups), as in ``Own``."""
        limits = np.tile(np.array(self[:3], dtype=np.float64)[:, None], groups)
        for group, own in self.of_groups.items():
            limits[:, group] = own
        return limits

    def passing(self, candidates: Candidates, alive: Bools) -> Bools:
        """What of ``alive`` is not below these, bool (n,)."""
        mask_score, stability, _ = self.by_group(candidates.true.shape[1])[:, candidates.group]
        passing: Bools = alive & (candidates.mask_score >= mask_score) & (candidates.stability >= stability)
        return passing

    def surviving(self, candidates: Candidates, alive: Bools) -> Bools:
        """What of ``alive`` is neither below these nor suppressed, bool (n,)."""
        duplicate_iou = self.by_group(candidates.true.shape[1])[2]
        return candidates.surviving(self.passing(candidates, alive), duplicate_iou, self.cross_class_iou)


@dataclass(frozen=True)
class Thresholds:
    """What an instance must reach to be accepted.

    Attributes:
        accept_score: of classes without one of their own.
        accept_scores: float64 (groups,), of all classes.
        own: bool (groups,), which have one of their own.
    """

    limits: Limits
    accept_score: float
    accept_scores: Floats
    own: Bools

    def accepted(self, candidates: Candidates) -> Bools:
        """What the gate accepts of ``candidates``, bool (n,)."""
        surviving = self.limits.surviving(candidates, np.ones(len(candidates.score), dtype=np.bool_))
        return surviving & (candidates.score >= self.accept_scores[candidates.group])


def fit(
    candidates: Candidates, images: Bools, target: Target, quality: QualityConfig, enough: Bools, floor: float
) -> tuple[Thresholds, float]:
    """The best thresholds for some of the images.

    Args:
        images: bool (images,), those to look at.
        quality: where the ascent begins, as well as from an open gate; what gains nothing stays as it is there.
        enough: bool (groups,), which have objects enough for thresholds of their own.
        floor: no accept score is lower, since what scores less may not have been recorded.

    Returns:
        The thresholds, which accept nothing if the target is out of reach, and the highest precision that one accept
        score for all classes can reach.
    """
    here = images[candidates.image] & (candidates.score >= floor)
    solve = _Solver(candidates, here, candidates.true[images].sum(axis=0), target, enough, floor)
    given = Limits(*(getattr(quality, name) for name in Limits._fields[:4]))
    usual = QualityConfig()
    open_gate = Limits(0.0, 0.0, usual.duplicate_iou, usual.cross_class_iou)
    grids = _grids(candidates, here) | {"cross_class_iou": OVERLAPS}
    best = solve(given)
    for start in (given, open_gate):
        best = _better(best, _ascended(solve, solve(start), grids))
    for group in np.flatnonzero(enough).tolist():
        if own := _own(candidates, here, images, target, floor, best.limits, group):
            best = _better(best, solve(best.limits._replace(of_groups={**best.limits.of_groups, group: own})))
    return best.thresholds(), solve.best_precision


def _own(
    candidates: Candidates, here: Bools, images: Bools, target: Target, floor: float, limits: Limits, group: int
) -> Own | None:
    """Thresholds that suit a class better by itself than the general ones, if there are."""
    passing, by_group = limits.passing(candidates, here), limits.by_group(candidates.true.shape[1])
    outranked = candidates.outranked(passing, by_group[2], limits.cross_class_iou)
    alone = candidates.of_group(group, here & ~outranked)
    everything, true = np.ones(len(alone.score), dtype=np.bool_), alone.true[images].sum(axis=0)
    solve = _Solver(alone, everything, true, target, np.ones(1, dtype=np.bool_), floor)
    general = solve(limits._replace(of_groups={}))
    best = _ascended(solve, general, _grids(alone, everything))
    gain = (best.value - general.value) * (true[0] if target.precision is None else 1)
    return Own(*best.limits[:3]) if gain > OWN_GAIN * math.sqrt(true[0]) else None


def _ascended(solve: _Solver, reached: _Solution, grids: Mapping[str, Floats]) -> _Solution:
    """The best that is found from ``reached`` on by changing one threshold at a time."""
    before = -math.inf
    while reached.value > before:
        before = reached.value
        for name, grid in grids.items():
            for step in grid:
                changed: dict[str, Any] = {name: float(step)}
                reached = _better(reached, solve(reached.limits._replace(**changed)))
    return reached


def _better(one: _Solution, other: _Solution) -> _Solution:
    """``other`` if it is; what differs by rounding alone is no better."""
    return max(one, other, key=lambda each: round(each.value, 12))


def _grids(candidates: Candidates, here: Bools) -> dict[str, Floats]:
    """Values to try of each threshold in ``Own``."""
    mask_score, stability = candidates.mask_score[here], candidates.stability[here]
    return {"min_mask_score": _steps(mask_score), "min_stability": _steps(stability), "duplicate_iou": OVERLAPS}


def _steps(scores: Floats) -> Floats:
    """0 and evenly filled steps between the values that occur."""
    if not scores.size:
        return np.zeros(1)
    steps: Floats = np.unique(np.floor(np.quantile(scores, np.linspace(0, 1, STEPS)) * 1000) / 1000)
    return np.concatenate([[0.0], steps[(steps > 0) & (steps <= 1)]])


@dataclass(frozen=True)
class _Solution:
    """The best accept scores at given ``limits``.

    Attributes:
        cut, cuts: the lowest score that is accepted and the highest that is not: of classes without an accept score of
            their own, and float64 (2, groups).
        own: bool (groups,).
    """

    limits: Limits
    value: float
    cut: tuple[float, float]
    cuts: Floats
    own: Bools

    def thresholds(self) -> Thresholds:
        general = _between(*self.cut)
        accept = [_between(*cut) if own else general for cut, own in zip(self.cuts.T, self.own, strict=True)]
        return Thresholds(self.limits, general, np.array(accept), self.own)


NOTHING = (1.0, 1.0)  # accepted


class _Solver:
    """Finds the best accept scores; ``best_precision`` is the highest met so far with one score for all classes."""

    def __init__(
        self, candidates: Candidates, here: Bools, true: Ints, target: Target, enough: Bools, floor: float
    ) -> None:
        self._candidates, self._here, self._true = candidates, here, true
        self._target, self._enough, self._floor = target, enough, floor
        self._by_class = np.lexsort((-candidates.score, candidates.group))
        self._by_class = self._by_class[here[self._by_class]]
        self._by_score = np.argsort(-candidates.score, kind="stable")
        self._by_score = self._by_score[here[self._by_score]]
        self.best_precision = 0.0

    def __call__(self, limits: Limits) -> _Solution:
        found = self._candidates
        surviving = limits.surviving(found, self._here)
        hits = found.hits(surviving)
        counted = surviving & (hits | ~found.neutral)
        cuts, own, own_hits, own_found = self._of_classes(hits, counted)

        order = self._by_score[counted[self._by_score]]
        score, hit, inherits = found.score[order], hits[order], ~own[found.group[order]]
        hits_of_all: Ints = np.cumsum(hit)
        found_by_all = np.arange(1, len(order) + 1)
        total_hits, total_found = own_hits + np.cumsum(hit & inherits), own_found + np.cumsum(inherits)
        true = np.array(self._true.sum())
        value = self._target.value(hits_of_all, found_by_all, true)
        if self._target.precision is not None:  # it must hold for what is accepted in the end, too
            value = np.minimum(value, self._target.value(total_hits, total_found, true))
        is_whole = np.append(score[1:] != score[:-1], True)[: len(order)]  # equal scores are accepted together
        value = np.where(is_whole, value, -np.inf)
        cut = NOTHING
        if len(order):
            self.best_precision = max(self.best_precision, float((hits_of_all / found_by_all)[is_whole].max()))
            best = int(value.argmax())
            if value[best] > 0:
                cut = float(score[best]), float(score[best + 1]) if best + 1 < len(score) else self._floor
                own_hits, own_found = int(total_hits[best]), int(total_found[best])
        reached = self._target.value(np.array(own_hits), np.array(own_found), true)
        return _Solution(limits, float(reached), cut, cuts, own)

    def _of_classes(self, hits: Bools, counted: Bools) -> tuple[Floats, Bools, int, int]:
        """``cuts`` and ``own``, with the hits and the accepted ones of these classes."""
        found, groups = self._candidates, len(self._true)
        cuts, own = np.ones((2, groups)), np.zeros(groups, dtype=np.bool_)
        if self._target.precision is not None:
            own |= self._enough  # a class that cannot reach it accepts nothing
        order = self._by_class[counted[self._by_class]]
        order = order[self._enough[found.group[order]]]
        if not len(order):
            return cuts, own, 0, 0
        group, score = found.group[order], found.score[order]
        is_last = np.concatenate([group[1:] != group[:-1], [True]])
        starts = np.flatnonzero(np.concatenate([[True], is_last[:-1]]))
        sizes = np.diff(starts, append=len(order))
        running = np.cumsum(hits[order])
        group_hits: Ints = running - np.repeat(running[starts] - hits[order[starts]], sizes)
        group_found = np.arange(1, len(order) + 1) - np.repeat(starts, sizes)
        value = self._target.value(group_hits, group_found, self._true[group])
        value[:-1][~is_last[:-1] & (score[1:] == score[:-1])] = -np.inf
        top = np.flatnonzero(value == np.repeat(np.maximum.reduceat(value, starts), sizes))
        best = top[np.searchsorted(top, starts)]
        best = best[value[best] > 0]
        own[group[best]] = True
        below = np.where(is_last[best], self._floor, np.append(score, self._floor)[best + 1])
        cuts[:, group[best]] = score[best], below
        return cuts, own, int(group_hits[best].sum()), int(group_found[best].sum())


def _between(accepted: float, refused: float) -> float:
    """A short number that parts the two, near their middle; ``accepted`` is not below it."""
    middle = (accepted + refused) / 2
    for digits in range(2, 17):
        if refused < (short := round(middle, digits)) <= accepted:
            return short
    return float(accepted)
