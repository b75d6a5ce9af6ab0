"""Measures of hand-made cases: strips on a line, whose overlaps are easy to see."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.metrics.iou import boundary_iou, tolerant_iou
from labeler.metrics.measure_config import MeasureConfig
from labeler.metrics.measures import DatasetMeasures
from labeler.records import Instance
from tests.support.made_up import by_pycocotools, made_up

Strip = tuple[int, float]  # left edge, score


def instance(left: int, score: float, class_id: int = 0, mask_score: float = 1.0, width: int = 10) -> Instance:
    strip = mask_to_rle(np.pad(np.ones((20, width), dtype=bool), ((0, 0), (left, 100 - left - width))))
    return Instance(class_id, "thing", rle_box_xyxy(strip), score, mask_score, 1.0, rle_area(strip), strip)


def true(left: int, class_id: int = 0, crowd: bool = False, width: int = 10) -> GroundTruthInstance:
    return GroundTruthInstance(class_id, instance(left, 1, width=width).rle, crowd)


def image(*objects: GroundTruthInstance, name: str = "a") -> GroundTruthImage:
    return GroundTruthImage(name, 100, 20, objects)


def measured(
    found: list[Instance], *objects: GroundTruthInstance, config: MeasureConfig | None = None
) -> DatasetMeasures:
    measures = MeasureAccumulator(["thing", "other"], config)
    measures.add(0, image(*objects), found, [True] * len(found))
    return measures.result()


# found: (left, score), against objects at 0 and 50; a strip shifted by 2 of 10 has IoU 8/12.
@pytest.mark.parametrize(
    ("found", "ap50", "ap75", "precision", "recall"),
    [
        ([(0, 0.9), (50, 0.8)], 1.0, 1.0, 1.0, 1.0),
        ([(0, 0.9), (52, 0.8)], 1.0, 51 / 101, 1.0, 1.0),  # recall reaches 0.5 at IoU 0.75
        ([(0, 0.9), (30, 0.8)], 51 / 101, 51 / 101, 0.5, 0.5),
        ([(30, 0.9), (0, 0.8), (50, 0.7)], 2 / 3, 2 / 3, 2 / 3, 1.0),  # precision 1/2 then 2/3, interpolated
        ([(0, 0.9), (0, 0.8)], 51 / 101, 51 / 101, 0.5, 0.5),  # an object is matched only once
        ([], 0.0, 0.0, None, 0.0),
    ],
)
def test_ap_precision_recall(
    found: list[Strip], ap50: float, ap75: float, precision: float | None, recall: float
) -> None:
    total = measured([instance(*strip) for strip in found], true(0), true(50)).total
    assert total.mask.ap50 == pytest.approx(ap50, abs=1e-6)
    assert total.mask.ap75 == pytest.approx(ap75, abs=1e-6)
    assert (total.precision, total.recall) == pytest.approx((precision, recall))
    assert total.f1 == pytest.approx(2 * recall * (precision or 0) / (recall + (precision or 0) or 1))


def test_ap_averages_ten_thresholds() -> None:
    # IoU 8/12 passes 0.50, 0.55, 0.60 and 0.65
    assert measured([instance(2, 0.9)], true(0)).total.mask.ap == pytest.approx(0.4)


def test_candidates_count_for_ap_and_accepted_ones_for_the_rest() -> None:
    measures = MeasureAccumulator(["thing", "other"])
    found = [instance(0, 0.9), instance(50, 0.2), instance(80, 0.8), instance(20, 0.7, class_id=1)]
    of_image = measures.add(0, image(true(0), true(50)), found, [True, False, True, True])
    result = measures.result()
    thing, other = result.classes
    assert (thing.objects, thing.accepted, thing.matched, thing.false_negatives, thing.false_positives) == (
        2,
        2,
        1,
        1,
        1,
    )
    assert (thing.precision, thing.recall, thing.f1) == (0.5, 0.5, 0.5)
    assert thing.mask.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert (other.objects, other.accepted, other.false_positives, other.precision, other.recall) == (0, 1, 1, 0, None)
    assert other.mask.ap is None
    assert result.total.mask == thing.mask  # the mean over classes that have objects
    assert (result.total.accepted, result.total.precision) == (3, pytest.approx(1 / 3))
    assert (of_image.matched, of_image.false_negatives, of_image.false_positives) == (1, 1, 2)
    assert of_image.score == pytest.approx(1 / (1 + 3 / 2))


def test_overlap_of_matched_pairs() -> None:
    found = [instance(1, 0.9), instance(52, 0.8), instance(80, 0.7)]
    overlap = measured(found, true(0), true(50), config=MeasureConfig(band_width=1, band_weight=0.5)).total.overlap
    pairs = [(found[0].rle, true(0).rle), (found[1].rle, true(50).rle)]
    assert overlap.pairs == 2
    assert overlap.iou == pytest.approx((9 / 11 + 8 / 12) / 2)
    assert overlap.boundary_iou == pytest.approx(np.mean([boundary_iou(*pair) for pair in pairs]))
    assert overlap.tolerant_iou == pytest.approx(np.mean([tolerant_iou(*pair, 1, 0.5) for pair in pairs]))
    assert measured(found, true(0)).total.overlap.tolerant_iou is None


def test_semantic_iou_is_the_mean_over_classes_of_pixels_over_all_images() -> None:
    measures = MeasureAccumulator(["thing", "other", "nowhere"])
    measures.add(0, image(true(0)), [instance(5, 0.9)], [True])  # intersection 5 columns, union 15
    measures.add(1, image(true(0), true(50, 1)), [instance(0, 0.9), instance(50, 0.9, 1)], [True, False])
    thing, other, nowhere = measures.result().classes
    assert thing.semantic_iou == pytest.approx((5 + 10) / (15 + 10))
    assert other.semantic_iou == 0  # not accepted
    assert nowhere.semantic_iou is None
    assert measures.result().total.semantic_iou == pytest.approx(0.3)


def test_crowds_are_neither_missed_nor_wrong() -> None:
    total = measured([instance(20, 0.9), instance(70, 0.8)], true(15, crowd=True, width=30), true(70)).total
    assert (total.objects, total.accepted, total.false_negatives, total.false_positives, total.precision) == (
        1,
        1,
        0,
        0,
        1,
    )


def test_what_ground_truth_does_not_cover_is_neither_right_nor_wrong() -> None:
    measures = MeasureAccumulator(["thing", "other"])
    of_image = GroundTruthImage("a", 100, 20, (true(0),), absent=frozenset(), not_exhaustive=frozenset({0}))
    score = measures.add(0, of_image, [instance(0, 0.9), instance(40, 0.9), instance(60, 0.9, 1)], [True] * 3)
    total = measures.result().total
    assert (total.objects, total.accepted, total.false_positives, total.precision) == (1, 1, 0, 1)
    assert score.score == 1


def test_the_threshold_of_a_match() -> None:
    for iou, matched in ((0.6, 1), (0.7, 0)):
        assert measured([instance(2, 0.9)], true(0), config=MeasureConfig(iou=iou)).total.matched == matched


def test_candidates_are_ranked_by_the_configured_score() -> None:
    found = [instance(0, 0.5, mask_score=0.9), instance(50, 0.9, mask_score=0.4)]  # joint: 0.45, 0.36
    for rank_by, ap in (("joint", 1), ("mask", 1), ("detector", 0.5)):
        result = measured(found, true(0), config=MeasureConfig(rank_by=rank_by))
        assert result.total.mask.ap50 == pytest.approx(ap)


def test_single_objects() -> None:
    measures = MeasureAccumulator(["thing", "other"])
    both = [instance(1, 0.9, mask_score=0.9), instance(40, 0.1, mask_score=0.2)]
    neither = [instance(0, 0.3, mask_score=0.9), instance(5, 0.9, mask_score=0.8)]  # joint takes the second
    measures.add(0, image(true(0)), [*both, instance(0, 1.0, class_id=1)], [False] * 3)
    measures.add(1, image(true(0)), neither, [False] * 2)
    measures.add(2, image(true(0)), [], [])
    measures.add(3, image(), [instance(0, 1.0)], [True])
    single = measures.result().single
    assert single["mask score"].iou == pytest.approx((9 / 11 + 1 + 0) / 3)
    assert single["joint score"].iou == pytest.approx((9 / 11 + 5 / 15 + 0) / 3)
    assert single["both agree"].pairs == 2  # the rule picks none in the second image
    assert single["both agree"].iou == pytest.approx((9 / 11 + 0) / 2)
    measures.add(4, image(true(0), true(50)), [], [])
    assert measures.result().single == {}


def test_an_image_without_anything_has_no_score() -> None:
    measures = MeasureAccumulator(["thing"])
    assert measures.add(0, image(), [], []).score is None
    assert measures.add(1, image(), [instance(0, 0.9)], [True]).score == 0


def test_classes_that_are_not_measured_are_left_out() -> None:
    measures = MeasureAccumulator(["thing", "other"], classes=[1])
    measures.add(0, image(true(0), true(50, 1)), [instance(50, 0.9, 1)], [True])
    result = measures.result()
    assert [each.name for each in result.classes] == ["other"]
    assert (result.total.objects, result.total.recall, result.total.mask.ap50) == pytest.approx((1, 1, 1))


def test_matches_and_ap_equal_those_of_pycocotools() -> None:
    images, found = made_up(seed=8)
    measures = MeasureAccumulator([f"class {n}" for n in range(4)], MeasureConfig(rank_by="detector"))
    for position, (each, candidates) in enumerate(zip(images, found, strict=True)):
        measures.add(position, each, candidates, [True] * len(candidates))
    total = measures.result().total
    evaluation = by_pycocotools(images, found, "segm")
    assert total.mask.ap == pytest.approx(evaluation.stats[0])
    assert total.box.ap == pytest.approx(by_pycocotools(images, found, "bbox").stats[0])
    whole = [each for each in evaluation.evalImgs if each and each["aRng"] == [0, 1e10]]
    counted = [(each["dtMatches"][0] > 0) & ~each["dtIgnore"][0] for each in whole]
    # pycocotools takes only the 100 best per image and class, so it has no more matches.
    assert total.matched >= sum(hits.sum() for hits in counted) > 50
    assert total.objects == sum((each["gtIgnore"] == 0).sum() for each in whole)


def test_parts_add_up_to_the_whole() -> None:
    images, found = made_up(seed=9)
    names, config = [f"class {n}" for n in range(4)], MeasureConfig(band_width=2)
    whole, joined = MeasureAccumulator(names, config), MeasureAccumulator(names, config)
    for start in range(0, len(images), 3):
        part = MeasureAccumulator(names, config)
        for position in range(start, min(start + 3, len(images))):
            added = (position, images[position], found[position], [True] * len(found[position]))
            assert whole.add(*added) == part.add(*added)
        joined.include(pickle.loads(pickle.dumps(part)))
    assert joined.result() == whole.result()


@pytest.mark.parametrize(("in_parts", "expected"), [([[0], [0]], 2), ([[0], [0, 50]], None), ([[0, 50], [0]], None)])
def test_parts_with_single_objects(in_parts: list[list[int]], expected: int | None) -> None:
    joined = MeasureAccumulator(["thing"])
    for position, lefts in enumerate(in_parts):
        part = MeasureAccumulator(["thing"])
        part.add(position, image(*map(true, lefts)), [instance(0, 0.9)], [True])
        joined.include(part)
    single = joined.result().single
    assert single["joint score"].pairs == expected if expected else single == {}
