"""What thresholds are worth on images that they were not found on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from labeler.metrics.candidates import Bools, Candidates, Floats, Ints
from labeler.metrics.thresholds import Target, fit
from labeler.quality import QualityConfig

RESAMPLES, DRAWS_AT_ONCE = 2000, 1_000_000
Metric = Literal["f1", "precision", "recall"]


def cross_validated(
    candidates: Candidates,
    target: Target,
    quality: QualityConfig,
    enough: Bools,
    floor: float,
    folds: int,
    seed: int,
) -> Ints:
    """Counts of each image by thresholds that were fitted without it, int64 (3, images, groups)."""
    images = len(candidates.true)
    counts = np.zeros((3, *candidates.true.shape), dtype=np.int64)
    for held_out in _folds(images, folds, seed):
        thresholds, _ = fit(candidates, ~held_out, target, quality, enough, floor)
        counts[:, held_out] = candidates.counts(thresholds.accepted(candidates))[:, held_out]
    return counts


def _folds(images: int, folds: int, seed: int) -> Iterator[Bools]:
    for part in np.array_split(np.random.default_rng(seed).permutation(images), min(folds, images)):
        held_out = np.zeros(images, dtype=np.bool_)
        held_out[part] = True
        yield held_out


def bootstrap_gains(
    before: Ints, after: Ints, seed: int, level: float = 0.95
) -> dict[Metric, tuple[float, float, float]]:
    """The gain over all classes, with a percentile interval from images drawn with replacement (Efron 1979).

    Args:
        before, after: int64 (3, images, groups), as of ``Candidates.counts``.
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
    """Of rows of hits, accepted ones and objects before and after, (n, 6)."""
    old_hits, old_found, true, hits, found, _ = sums.T

    def ratio(part: Floats, whole: Floats) -> Floats:
        return part / np.maximum(whole, 0.5)  # counts are whole numbers; of none there is no part

    return {
        "f1": ratio(hits, (found + true) / 2) - ratio(old_hits, (old_found + true) / 2),
        "precision": ratio(hits, found) - ratio(old_hits, old_found),
        "recall": ratio(hits, true) - ratio(old_hits, true),
    }
