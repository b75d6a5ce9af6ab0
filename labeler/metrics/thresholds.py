"""Accept scores that suit a ground truth best, by an exact sweep over the scores of candidates.

Every distinct score is tried as the accept score of each class, and as the common one. A class with few objects takes
the common accept score, which is the best for all classes together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeler.metrics.candidates import Bools, Candidates, Floats, Ints

NOTHING = 1.0  # the accept score of a class that accepts nothing


@dataclass(frozen=True, slots=True)
class Counts:
    """Accepted instances against the ground truth."""

    true_positives: int
    accepted: int
    objects: int

    @property
    def precision(self) -> float:
        return self.true_positives / self.accepted if self.accepted else 0.0

    @property
    def recall(self) -> float:
        return self.true_positives / self.objects if self.objects else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.true_positives / (self.accepted + self.objects) if self.true_positives else 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """What accept scores are chosen for: the highest F1, or the highest recall at a wanted ``precision``."""

    precision: float | None = None

    def value(self, true_positives: Ints, accepted: Ints, objects: int) -> Floats:
        """How good each outcome is; 0 or less if it is useless."""
        if self.precision is None:
            return np.asarray(2 * true_positives / np.maximum(accepted + objects, 1))
        return np.where(true_positives >= self.precision * accepted - 1e-9, true_positives, -1.0)


@dataclass(frozen=True)
class AcceptScores:
    """The accept scores that were found.

    Attributes:
        common: applies to classes without their own.
        per_class: float64 (classes,), the one that applies to each class.
        own: bool (classes,), whether it is the class's own.
    """

    common: float
    per_class: Floats
    own: Bools

    def accept(self, candidates: Candidates) -> Bools:
        """Which candidates are accepted, bool (n,)."""
        return np.asarray(candidates.score >= self.per_class[candidates.class_id])


def fit(
    gates: Sequence[Candidates], images: Bools, target: Target, enough: Bools, floor: float
) -> tuple[int, AcceptScores]:
    """The index of the best of several gates for some of the images, and the best accept scores for it.

    They accept nothing if the target is out of reach.

    Args:
        gates: what each gate lets through, of the same images.
        images: bool (images,).
        enough: bool (classes,), which classes have enough objects for their own accept score.
        floor: no accept score is lower, since candidates with lower scores may not have been recorded.
    """
    fits = [_sweep(each, images, target, enough, floor) for each in gates]
    totals = [
        each.counts(found.accept(each))[:, images].sum(axis=(1, 2)) for each, found in zip(gates, fits, strict=True)
    ]
    best = int(np.argmax([target.value(*each) for each in totals]))  # the first of equals
    return best, fits[best]


def _sweep(candidates: Candidates, images: Bools, target: Target, enough: Bools, floor: float) -> AcceptScores:
    order = np.argsort(-candidates.score, kind="stable")
    order = order[images[candidates.image[order]] & (candidates.score[order] >= floor)]
    score, correct, class_id = candidates.score[order], candidates.correct[order], candidates.class_id[order]
    objects = candidates.objects[images].sum(axis=0)
    per_class = np.full(len(objects), NOTHING)
    # At a wanted precision, a class that cannot reach it accepts nothing; else it takes the common accept score.
    own = enough.copy() if target.precision is not None else np.zeros_like(enough)
    taken = np.zeros(len(order), dtype=np.bool_)
    for each in np.flatnonzero(enough):
        mine = np.flatnonzero(class_id == each)
        value = target.value(np.cumsum(correct[mine]), np.arange(1, len(mine) + 1), objects[each])
        if count := _best_count(score[mine], value):
            own[each], taken[mine[:count]] = True, True
            per_class[each] = _boundary(score[mine], count, floor)
    value = target.value(np.cumsum(correct), np.arange(1, len(order) + 1), objects.sum())
    if target.precision is not None:  # all that is accepted in the end must reach it, too
        inherits = ~own[class_id]
        true_positives = (taken & correct).sum() + np.cumsum(inherits & correct)
        value = np.minimum(value, target.value(true_positives, taken.sum() + np.cumsum(inherits), objects.sum()))
    count = _best_count(score, value)
    common = _boundary(score, count, floor) if count else NOTHING
    return AcceptScores(common, np.where(own, per_class, common), own)


def best_precision(candidates: Candidates, floor: float) -> float:
    """The highest precision that one accept score for all classes reaches; 0 if nothing matches."""
    order = np.argsort(-candidates.score, kind="stable")
    order = order[candidates.score[order] >= floor]
    precision = np.cumsum(candidates.correct[order]) / np.arange(1, len(order) + 1)
    return float(precision[_ends(candidates.score[order])].max(initial=0.0))


def _best_count(score: Floats, value: Floats) -> int:
    """How many candidates to accept for the highest ``value``, best ``score`` first; 0 if no value is above 0."""
    value = np.where(_ends(score), value, 0.0)
    return int(value.argmax()) + 1 if value.max(initial=0.0) > 0 else 0


def _ends(score: Floats) -> Bools:
    """The last of each run of equal scores, which are accepted together."""
    return np.append(score[1:] != score[:-1], True)[: len(score)]


def _boundary(score: Floats, count: int, floor: float) -> float:
    """A short number near the middle between the last accepted score and the next lower one."""
    accepted, refused = float(score[count - 1]), float(score[count]) if count < len(score) else floor
    for digits in range(2, 17):
        if refused < (short := round((accepted + refused) / 2, digits)) <= accepted:
            return short
    return accepted
