"""The sweep against the gate and the matching as they run, and against trying every threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.metrics.candidates import Candidates, collect
from labeler.metrics.thresholds import Counts, Limits, Own, Target, Thresholds, fit
from labeler.metrics.validation import bootstrap_gains, cross_validated
from labeler.quality import ClassThresholds, QualityConfig, Score
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec
from tests.support.random_truth import HEIGHT, WIDTH, Pair, counts_of_the_gate, random_pairs, rectangle, two_kinds

CLASSES = [ClassSpec("dog"), ClassSpec("cat", min_score=0.5), ClassSpec("bird", min_score=0.1)]
GATE = QualityConfig(min_area=60)
FLOOR = 0.05


def gathered(pairs: list[Pair], quality: QualityConfig = GATE) -> Candidates:
    return collect(pairs, CLASSES, quality, range(3), range(3))


def gate(thresholds: Thresholds, quality: QualityConfig = GATE) -> QualityConfig:
    """``thresholds`` as the gate takes them."""
    limits = thresholds.limits._asdict()
    own = limits.pop("of_groups")
    of_classes = {
        spec.name: ClassThresholds(float(score), *own.get(group, ()))
        for group, (spec, score) in enumerate(zip(CLASSES, thresholds.accept_scores, strict=True))
    }
    return replace(quality, min_score=0, min_joint_score=0, of_classes=of_classes, **limits)


def by_class(candidates: Candidates, thresholds: Thresholds) -> list[Counts]:
    counts = candidates.counts(thresholds.accepted(candidates)).sum(axis=1)
    return [Counts(*column) for column in counts.T.tolist()]


def everything(candidates: Candidates) -> np.ndarray:
    return np.ones(len(candidates.true), dtype=bool)


@pytest.mark.parametrize("score", get_args(Score))
@pytest.mark.parametrize("seed", range(6))
def test_counts_are_those_of_the_gate_and_the_matching(seed: int, score: Score) -> None:
    pairs, random = random_pairs(seed, 30), np.random.default_rng(seed)
    quality = replace(GATE, score=score)
    candidates = gathered(pairs, quality)
    assert candidates.neutral.any()
    assert len(candidates.rounds) > 1
    for _ in range(20):
        values = random.choice([0, 0.3, 0.5, 0.7, 0.8], 10).tolist()
        limits = Limits(*values[:4], {0: Own(*values[4:7]), 2: Own(*values[7:])})
        accept_scores = random.choice(candidates.score, len(CLASSES))
        thresholds = Thresholds(limits, 0.3, accept_scores, np.ones(3, dtype=bool))
        assert by_class(candidates, thresholds) == counts_of_the_gate(pairs, gate(thresholds, quality), CLASSES)


def test_counts_in_force_are_those_of_the_gate() -> None:
    pairs = random_pairs(7, 40)
    quality = replace(GATE, duplicate_iou=0.2, of_classes={"dog": ClassThresholds(0.4, duplicate_iou=0.1)})
    candidates = gathered(pairs, quality)
    counts = candidates.counts(candidates.accepted).sum(axis=1)
    assert [Counts(*column) for column in counts.T.tolist()] == counts_of_the_gate(pairs, quality, CLASSES)


@pytest.mark.parametrize("seed", range(4))
def test_every_class_gets_its_best_threshold(seed: int) -> None:
    """Against every distinct score of every class, by the gate itself."""
    pairs = random_pairs(seed, 25)
    candidates = gathered(pairs)
    thresholds, _ = fit(candidates, everything(candidates), Target(), GATE, np.ones(3, bool), FLOOR)
    found = counts_of_the_gate(pairs, gate(thresholds), CLASSES)
    best = [0.0] * 3
    for score in np.unique(candidates.score):
        at_score = replace(thresholds, accept_scores=np.full(3, score))
        for class_id, counts in enumerate(counts_of_the_gate(pairs, gate(at_score), CLASSES)):
            best[class_id] = max(best[class_id], counts.f1)
    assert [counts.f1 for counts in found] == pytest.approx(best, abs=1e-12)


def pooled(counts: list[Counts]) -> Counts:
    return Counts(*(sum(getattr(each, name) for each in counts) for name in ("hits", "found", "true")))


@pytest.mark.parametrize("seed", range(3))
def test_shared_thresholds_come_close_to_a_search_of_all(seed: int) -> None:
    """Every combination of a coarse grid, each with every accept score that all classes may share."""
    pairs = random_pairs(seed, 20)
    poor = replace(GATE, min_mask_score=0.95, min_stability=0.97, duplicate_iou=0.3, accept_score=0.9)
    candidates = gathered(pairs, poor)
    few = np.zeros(3, dtype=bool)
    thresholds, _ = fit(candidates, everything(candidates), Target(), poor, few, FLOOR)
    reached = pooled(counts_of_the_gate(pairs, gate(thresholds, poor), CLASSES)).f1
    best = 0.0
    scores = np.unique(candidates.score)[::4]
    for mask_score in (0, 0.6, 0.8):
        for stability in (0, 0.7, 0.85):
            for overlap in (0.3, 0.6, 0.9):
                for score in scores:
                    trial = Thresholds(
                        Limits(mask_score, stability, overlap, poor.cross_class_iou), score, np.full(3, score), few
                    )
                    best = max(best, pooled(by_class(candidates, trial)).f1)
    assert reached >= best - 1e-9
    assert pooled(counts_of_the_gate(pairs, poor, CLASSES)).f1 < 0.5 * best


@pytest.mark.parametrize("precision", [None, 0.9])
def test_a_class_that_differs_leaves_the_general_thresholds(precision: float | None) -> None:
    """One for all would cost the first class its right finds, or the second its precision."""
    pairs = two_kinds(0)
    quality = replace(GATE, cross_class_iou=0, duplicate_iou=0)
    candidates = gathered(pairs, quality)
    enough = np.array([True, True, False])
    thresholds, _ = fit(candidates, everything(candidates), Target(precision), quality, enough, 0.01)
    mask_scores = thresholds.limits.by_group(3)[0]
    assert mask_scores[0] <= 0.4 < mask_scores[1]
    assert len(thresholds.limits.of_groups) == 1
    found = by_class(candidates, thresholds)
    assert found == counts_of_the_gate(pairs, gate(thresholds, quality), CLASSES)
    assert found[:2] == [Counts(60, 60, 60)] * 2
    alone, _ = fit(candidates, everything(candidates), Target(precision), quality, np.zeros(3, bool), 0.01)
    assert pooled(found).f1 > pooled(by_class(candidates, alone)).f1
    assert not alone.limits.of_groups
    after = cross_validated(candidates, Target(precision), quality, enough, 0.01, folds=5, seed=0).sum(axis=1)
    assert [Counts(*column) for column in after[:, :2].T.tolist()] == [Counts(60, 60, 60)] * 2


@pytest.mark.parametrize("seed", range(4))
def test_no_class_leaves_the_general_thresholds_by_chance(seed: int) -> None:
    """Mask score and stability of ``random_pairs`` mean the same in all classes."""
    candidates = gathered(random_pairs(seed, 60))
    thresholds, _ = fit(candidates, everything(candidates), Target(), GATE, np.ones(3, bool), FLOOR)
    assert len(thresholds.limits.of_groups) <= 1


def test_a_wanted_precision_is_met_with_the_highest_recall() -> None:
    pairs = random_pairs(3, 60)
    candidates = gathered(pairs)
    for wanted in (0.7, 0.9):
        thresholds, _ = fit(candidates, everything(candidates), Target(wanted), GATE, np.ones(3, bool), FLOOR)
        found = counts_of_the_gate(pairs, gate(thresholds), CLASSES)
        assert all(counts.precision >= wanted for counts in found)
        most = [0] * 3
        for score in np.unique(candidates.score):
            at_score = replace(thresholds, accept_scores=np.full(3, score))
            for class_id, counts in enumerate(by_class(candidates, at_score)):
                if counts.precision >= wanted:
                    most[class_id] = max(most[class_id], counts.hits)
        assert [counts.hits for counts in found] == most


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("own", [[True, False, False], [False, False, True], [True, True, False]])
def test_a_wanted_precision_holds_with_classes_that_inherit(own: list[bool], seed: int) -> None:
    """Also where those have worse candidates than the classes that the shared score was found on."""
    pairs = random_pairs(seed, 60)
    candidates = gathered(pairs)
    thresholds, _ = fit(candidates, everything(candidates), Target(0.85), GATE, np.array(own), FLOOR)
    assert thresholds.own.tolist() == own
    assert set(thresholds.accept_scores[~thresholds.own]) == {thresholds.accept_score}
    assert pooled(counts_of_the_gate(pairs, gate(thresholds), CLASSES)).precision >= 0.85


def test_a_shared_score_that_spoils_the_precision_of_all_is_not_taken() -> None:
    """The sure finds of the first class make up for the second's, until that class takes its unsure ones too."""
    rle = rectangle(10, 10, 20, 20)
    pairs = []
    finds = [(0, 0.9, True)] * 10 + [(0, 0.4, True)] * 7 + [(0, 0.4, False)] * 3 + [(1, 0.95, True)] * 3
    for number, (class_id, score, right) in enumerate([*finds, *[(1, 0.95, False)] * 2]):
        item = Instance(class_id, "p", (10.0, 10.0, 30.0, 30.0), score, 0.9, 0.9, 400, rle)
        true = (GroundTruthInstance(class_id, rle),) if right else ()
        name = f"{number}.png"
        pairs.append(
            (ImageRecord(name, WIDTH, HEIGHT, "d", instances=(item,)), GroundTruthImage(name, WIDTH, HEIGHT, true))
        )
    candidates = gathered(pairs)
    enough = np.array([True, False, False])
    thresholds, _ = fit(candidates, everything(candidates), Target(0.85), GATE, enough, FLOOR)
    assert by_class(candidates, thresholds)[:2] == [Counts(17, 20, 17), Counts(0, 0, 3)]
    thresholds, _ = fit(candidates, everything(candidates), Target(0.8), GATE, enough, FLOOR)
    assert by_class(candidates, thresholds)[:2] == [Counts(17, 20, 17), Counts(3, 5, 3)]


def test_no_threshold_is_below_the_floor() -> None:
    pairs = random_pairs(5, 40)
    candidates = gathered(pairs)
    thresholds, _ = fit(candidates, everything(candidates), Target(), GATE, np.ones(3, bool), 0.4)
    assert thresholds.accept_scores.min() >= 0.4


def test_an_image_is_counted_by_thresholds_that_never_saw_it() -> None:
    pairs = random_pairs(6, 8)
    candidates = gathered(pairs)
    enough = np.ones(3, dtype=bool)
    counts = cross_validated(candidates, Target(), GATE, enough, FLOOR, folds=8, seed=0)
    for image, pair in enumerate(pairs):
        others = gathered(pairs[:image] + pairs[image + 1 :])
        thresholds, _ = fit(others, everything(others), Target(), GATE, enough, FLOOR)
        alone = counts_of_the_gate([pair], gate(thresholds), CLASSES)
        assert [Counts(*column) for column in counts[:, image].T.tolist()] == alone


def test_the_interval_of_a_gain() -> None:
    alike = np.tile(np.array([[[1]], [[4]], [[4]]]), (1, 20, 1))
    better = np.tile(np.array([[[2]], [[4]], [[4]]]), (1, 20, 1))
    assert bootstrap_gains(alike, better, seed=0)["f1"] == pytest.approx((0.25, 0.25, 0.25))
    random = np.random.default_rng(0)
    before, after = (
        np.stack([random.binomial(4, p, (50, 1)), np.full((50, 1), 4), np.full((50, 1), 4)]) for p in (0.5, 0.7)
    )
    shown, low, high = bootstrap_gains(before, after, seed=1)["precision"]
    assert (shown, low, high) == bootstrap_gains(before, after, seed=1)["precision"]
    gain = (after[0].sum() - before[0].sum()) / 200
    spread = np.std(after[0] - before[0]) / 4 / np.sqrt(50)  # of a mean of 50, by the central limit theorem
    assert shown == pytest.approx(gain)
    assert (low, high) == pytest.approx((gain - 1.96 * spread, gain + 1.96 * spread), abs=0.3 * spread)
