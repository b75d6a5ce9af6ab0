"""The sweep against the gate and the matching as they run, and against trying every threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.metrics.candidates import Candidates, CandidateTable
from labeler.metrics.thresholds import AcceptScores, Counts, Target, best_precision, fit
from labeler.metrics.validation import bootstrap_gains, cross_validated, sums_by_group
from labeler.quality import judge
from labeler.quality_config import QualityConfig, Score
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec
from tests.support.random_truth import HEIGHT, WIDTH, Pair, counts_of_the_gate, random_pairs, rectangle

CLASSES = [ClassSpec("dog"), ClassSpec("cat", min_score=0.5), ClassSpec("bird", min_score=0.1)]
GATE = QualityConfig(min_area=60, min_score=0, min_joint_score=0, accept_score=0)
FLOOR = 0.05


def gathered(pairs: list[Pair], quality: QualityConfig = GATE) -> Candidates:
    table = CandidateTable(range(3), 3, quality.score)
    specs = [replace(spec, min_score=None) for spec in CLASSES]
    for record, truth in pairs:
        judged = zip(record.instances, judge(record, quality, specs), strict=True)
        table.add((item for item, judgement in judged if judgement.verdict == "accept"), truth)
    return table.candidates()


def fitted(candidates: Candidates, target: Target, enough: list[bool], floor: float = FLOOR) -> AcceptScores:
    images = np.ones(len(candidates.objects), dtype=bool)
    best, scores = fit([candidates], images, target, np.array(enough), floor)
    assert best == 0
    return scores


def gate(per_class: np.ndarray, quality: QualityConfig = GATE) -> QualityConfig:
    """``quality`` with these accept scores."""
    names = [spec.name for spec in CLASSES]
    return replace(quality, class_accept_scores=dict(zip(names, per_class.tolist(), strict=True)))


def by_class(candidates: Candidates, scores: AcceptScores) -> list[Counts]:
    counts = candidates.counts(scores.accept(candidates)).sum(axis=1)
    return [Counts(*column) for column in counts.T.tolist()]


def pooled(counts: list[Counts]) -> Counts:
    return Counts(*(sum(getattr(each, name) for each in counts) for name in ("true_positives", "accepted", "objects")))


@pytest.mark.parametrize("score", get_args(Score))
@pytest.mark.parametrize("seed", range(2))
def test_counts_are_those_of_the_gate_and_the_matching(seed: int, score: Score) -> None:
    """Also where the gate rejects what scores less than any accept score."""
    pairs, random = random_pairs(seed, 30), np.random.default_rng(seed)
    quality = replace(GATE, score=score, duplicate_iou=0.5, cross_class_iou=0.6)
    candidates = gathered(pairs, quality)
    for _ in range(20):
        per_class = random.choice(candidates.score, len(CLASSES))
        counts = by_class(candidates, AcceptScores(0.3, per_class, np.ones(3, dtype=bool)))
        assert counts == counts_of_the_gate(pairs, gate(per_class, quality), CLASSES)
        reviewing = replace(quality, min_joint_score=0.7 * per_class.min(), accept_score=0.99)
        assert counts == counts_of_the_gate(pairs, gate(per_class, reviewing), CLASSES)


@pytest.mark.parametrize("seed", range(2))
def test_every_class_gets_its_best_accept_score(seed: int) -> None:
    """Against every distinct score, by the gate itself: for each class, and for all that have none of their own."""
    pairs = random_pairs(seed, 25)
    candidates = gathered(pairs)
    counts = [
        counts_of_the_gate(pairs, gate(np.full(3, score)), CLASSES) for score in np.unique(candidates.score).tolist()
    ]
    own = fitted(candidates, Target(), [True] * 3)
    assert own.own.all()
    best = [max(row[class_id].f1 for row in counts) for class_id in range(3)]
    assert [each.f1 for each in by_class(candidates, own)] == pytest.approx(best, abs=1e-12)
    common = fitted(candidates, Target(), [False] * 3)
    assert set(common.per_class) == {common.common}
    assert pooled(by_class(candidates, common)).f1 == pytest.approx(max(pooled(row).f1 for row in counts), abs=1e-12)


def test_a_wanted_precision_is_met_with_the_highest_recall() -> None:
    pairs = random_pairs(3, 25)
    candidates = gathered(pairs)
    counts = [
        counts_of_the_gate(pairs, gate(np.full(3, score)), CLASSES) for score in np.unique(candidates.score).tolist()
    ]
    for wanted in (0.7, 0.9):
        found = by_class(candidates, fitted(candidates, Target(wanted), [True] * 3))
        for class_id, each in enumerate(found):
            reached = [row[class_id] for row in counts if row[class_id].precision >= wanted]
            assert each.precision >= wanted or not each.accepted
            assert each.true_positives == max((row.true_positives for row in reached), default=0)
    assert best_precision(candidates, FLOOR) == max(pooled(row).precision for row in counts)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("own", [[True, False, False], [False, False, True], [True, True, False]])
def test_a_wanted_precision_also_holds_with_classes_that_have_the_common_score(own: list[bool], seed: int) -> None:
    """Even where those have worse candidates than the classes that the common score was found on."""
    pairs = random_pairs(seed, 60)
    candidates = gathered(pairs)
    scores = fitted(candidates, Target(0.85), own)
    assert scores.own.tolist() == own
    assert set(scores.per_class[~scores.own]) == {scores.common}
    assert pooled(counts_of_the_gate(pairs, gate(scores.per_class), CLASSES)).precision >= 0.85


def test_a_common_score_that_spoils_the_precision_of_all_is_not_taken() -> None:
    """The sure true positives of the first class make up for the second's false ones, until it accepts unsure ones."""
    rle = rectangle(10, 10, 20, 20)
    pairs = []
    candidates = [(0, 0.9, True)] * 10 + [(0, 0.4, True)] * 7 + [(0, 0.4, False)] * 3 + [(1, 0.95, True)] * 3
    for number, (class_id, score, right) in enumerate([*candidates, *[(1, 0.95, False)] * 2]):
        item = Instance(class_id, "p", (10.0, 10.0, 30.0, 30.0), score, 0.9, 0.9, 400, rle)
        true = (GroundTruthInstance(class_id, rle),) if right else ()
        name = f"{number}.png"
        pairs.append(
            (ImageRecord(name, WIDTH, HEIGHT, "d", instances=(item,)), GroundTruthImage(name, WIDTH, HEIGHT, true))
        )
    table = gathered(pairs)
    enough = [True, False, False]
    assert by_class(table, fitted(table, Target(0.85), enough))[:2] == [Counts(17, 20, 17), Counts(0, 0, 3)]
    assert by_class(table, fitted(table, Target(0.8), enough))[:2] == [Counts(17, 20, 17), Counts(3, 5, 3)]


@pytest.mark.parametrize("precision", [None, 0.8])
def test_the_best_of_several_gates_is_taken(precision: float | None) -> None:
    pairs = random_pairs(4, 60)
    gates = [
        gathered(pairs, replace(GATE, min_mask_score=mask_score, duplicate_iou=overlap))
        for mask_score, overlap in ((0.95, 0.8), (0, 0.5), (0, 0.5), (0.9, 0))
    ]
    enough, images = np.ones(3, dtype=bool), np.ones(60, dtype=bool)
    best, scores = fit(gates, images, Target(precision), enough, FLOOR)
    values = []
    for each in gates:
        total = pooled(by_class(each, fitted(each, Target(precision), [True] * 3)))
        values.append(total.f1 if precision is None else total.true_positives)
    assert best == 1 == int(np.argmax(values)), "the first of equals"
    assert scores.per_class.tolist() == fitted(gates[1], Target(precision), [True] * 3).per_class.tolist()


def test_no_accept_score_is_below_the_floor() -> None:
    scores = fitted(gathered(random_pairs(5, 40)), Target(), [True] * 3, floor=0.4)
    assert scores.per_class.min() >= 0.4


def test_without_a_match_nothing_is_accepted() -> None:
    pairs = [(record, replace(truth, instances=())) for record, truth in random_pairs(5, 10)]
    candidates = gathered(pairs)
    scores = fitted(candidates, Target(), [True] * 3)
    assert not scores.accept(candidates).any()
    assert not scores.own.any()
    assert best_precision(candidates, FLOOR) == 0


def test_an_image_is_counted_with_thresholds_that_never_saw_it() -> None:
    pairs = random_pairs(6, 8)
    qualities = [GATE, replace(GATE, duplicate_iou=0.3)]
    enough = np.ones(3, dtype=bool)
    gates = [gathered(pairs, each) for each in qualities]
    groups = np.array([0, 1, 2, 0, 3, 4, 1, 0])  # as of copies
    counts = cross_validated(gates, Target(), enough, FLOOR, folds=8, seed=0, groups=groups)
    for image, pair in enumerate(pairs):
        different = [other for other, group in zip(pairs, groups, strict=True) if group != groups[image]]
        others = [gathered(different, each) for each in qualities]
        best, scores = fit(others, np.ones(len(different), dtype=bool), Target(), enough, FLOOR)
        alone = counts_of_the_gate([pair], gate(scores.per_class, qualities[best]), CLASSES)
        assert [Counts(*column) for column in counts[:, image].T.tolist()] == alone


def test_copies_do_not_narrow_the_interval() -> None:
    random = np.random.default_rng(0)
    before, after = (random.binomial(4, p, (3, 30, 2)) for p in (0.5, 0.7))
    copied = [np.repeat(counts, 4, axis=1) for counts in (before, after)]
    groups = np.repeat(np.arange(30), 4)
    sums = [sums_by_group(counts, groups) for counts in copied]
    assert (sums[0] == 4 * before).all()
    assert bootstrap_gains(sums[0], sums[1], seed=1)["precision"] == pytest.approx(
        bootstrap_gains(before, after, seed=1)["precision"]
    )


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
