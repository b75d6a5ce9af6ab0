"""How much tuned thresholds gain on images that they were not tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from labeler.metrics.candidates import Bools, Candidates, Floats, Ints
from labeler.metrics.thresholds import Target, fit

RESAMPLES, DRAWS_AT_ONCE = 2000, 1_000_000
Metric = Literal["f1", "precision", "recall"]


def cross_validated(
    gates: Sequence[Candidates], target: Target, enough: Bools, floor: float, folds: int, seed: int, groups: Ints
) -> Ints:
    """Counts of each image with thresholds that were found without it and its copies, int64 (3, images, classes).

    Args:
        groups: int64 (images,), the same number for images that are left out together; counts from 0, in the order of
            the first images.
    """
    counts = np.zeros((3, *gates[0].objects.shape), dtype=np.int64)
    count = int(groups.max()) + 1
    for fold in np.array_split(np.random.default_rng(seed).permutation(count), min(folds, count)):
        left_out = np.isin(groups, fold)
        best, found = fit(gates, ~left_out, target, enough, floor)
        counts[:, left_out] = gates[best].counts(found.accept(gates[best]))[:, left_out]
    return counts


def sums_by_group(counts: Ints, groups: Ints) -> Ints:
    """Counts of each group, int64 (3, groups, classes), from those of each image; ``groups`` as above."""
    sums = np.zeros((int(groups.max()) + 1, len(counts), counts.shape[2]), dtype=np.int64)
    np.add.at(sums, groups, counts.transpose(1, 0, 2))
    return sums.transpose(1, 0, 2)


def bootstrap_gains(
    before: Ints, after: Ints, seed: int, level: float = 0.95
) -> dict[Metric, tuple[float, float, float]]:
    """The gain over all classes, with a percentile interval from images drawn with replacement (Efron 1979).

    Args:
        before, after: int64 (3, images, classes), from ``Candidates.counts``; of groups of images, where these
            depend on each other (see ``sums_by_group``).

    Returns:
        Gain, lower and upper end of the interval, by metric.
    """
    images = before.shape[1]
    both = np.concatenate([before.sum(axis=2), after.sum(axis=2)]).T.astype(np.float64)
    random, shares = np.random.default_rng(seed), np.full(images, 1 / images)
    at_once = max(1, DRAWS_AT_ONCE // images)
    sizes = [min(at_once, RESAMPLES - start) for start in range(0, RESAMPLES, at_once)]
    drawn = [random.multinomial(images, shares, size) @ both for size in sizes]
    gains = _gains(np.concatenate([both.sum(axis=0)[None], *drawn]))
    ends = [(1 - level) / 2, (1 + level) / 2]
    return {name: (float(each[0]), *np.quantile(each[1:], ends).tolist()) for name, each in gains.items()}


def _gains(sums: Floats) -> dict[Metric, Floats]:
    """The gain of each row of true positives, accepted instances and objects before and after, (n, 6)."""
    old_true, old_accepted, objects, new_true, new_accepted, _ = sums.T

    def ratio(part: Floats, whole: Floats) -> Floats:
        return part / np.maximum(whole, 0.5)  # counts are whole numbers; without any, the part is 0 too

    return {
        "f1": ratio(new_true, (new_accepted + objects) / 2) - ratio(old_true, (old_accepted + objects) / 2),
        "precision": ratio(new_true, new_accepted) - ratio(old_true, old_accepted),
        "recall": ratio(new_true, objects) - ratio(old_true, objects),
    }
