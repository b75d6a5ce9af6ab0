"""Objects of which only the box is known: they count for boxes, and leave measures of masks alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labeler.geometry.masks import Rle, box_to_rle, rle_box_xyxy, rle_to_mask
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance, match_masks
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.metrics.coco import CocoAccumulator, CocoMetrics
from labeler.metrics.iou import semantic_overlap
from labeler.records import Instance
from tests.support.made_up import CLASSES, by_pycocotools, ellipse, made_up

WIDTH, HEIGHT = 320, 240
ROUND = ellipse((60, 60), (20, 15))  # 0.79 of its box
ELSEWHERE = ellipse((200, 150), (30, 25))
NOTHING = ellipse((280, 40), (12, 12))


def boxed(rle: Rle) -> GroundTruthInstance:
    box = rle_box_xyxy(rle)
    return GroundTruthInstance(0, box_to_rle(box, WIDTH, HEIGHT), False, box, box_only=True)


def found(rle: Rle, score: float) -> Instance:
    return Instance(0, "dog", rle_box_xyxy(rle), score, 1.0, 1.0, 0, rle)


def image(*instances: GroundTruthInstance) -> GroundTruthImage:
    return GroundTruthImage("a", WIDTH, HEIGHT, instances)


@pytest.mark.parametrize(("box", "pixels"), [((2, 3, 7, 9), (2, 3, 7, 9)), ((-4, 1.6, 2.4, 999), (0, 2, 2, 240))])
def test_the_mask_of_a_box(box: tuple[float, float, float, float], pixels: tuple[int, int, int, int]) -> None:
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    x1, y1, x2, y2 = pixels
    expected[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(rle_to_mask(box_to_rle(box, WIDTH, HEIGHT)), expected)


def test_a_box_outside_the_image_has_no_mask() -> None:
    assert rle_box_xyxy(box_to_rle((319.9, 239.2, 330, 250), WIDTH, HEIGHT)) == (319, 239, 320, 240)
    with pytest.raises(ValueError, match="no area in the image"):
        box_to_rle((320, 10, 330, 20), WIDTH, HEIGHT)


def test_they_are_matched_by_box_iou() -> None:
    assert match_masks([ROUND, NOTHING], [boxed(ROUND)], iou=0.95).tolist() == [0, -1]
    as_mask = replace(boxed(ROUND), box_only=False)
    assert match_masks([ROUND], [as_mask], iou=0.95).tolist() == [-1]


def test_box_metrics_equal_those_of_pycocotools() -> None:
    images, candidates = made_up(seed=2)
    accumulator = CocoAccumulator("bbox")
    for position, each in enumerate(images):
        only = tuple(replace(true, box_xyxy=true.box, box_only=True) for true in each.instances)
        scores = [one.score for one in candidates[position]]
        accumulator.add(position, replace(each, instances=only), candidates[position], scores)
    wanted = by_pycocotools(images, candidates, "bbox").stats
    assert CocoMetrics.mean(accumulator.per_class(CLASSES)).ap == pytest.approx(wanted[0], abs=1e-12)


def test_masks_are_measured_as_if_neither_they_nor_what_is_found_there_existed() -> None:
    mask = GroundTruthInstance(0, ELSEWHERE)
    candidates = [found(ROUND, 0.9), found(NOTHING, 0.8), found(ELSEWHERE, 0.7)]
    results = []
    for true, given in (((mask, boxed(ROUND)), candidates), ((mask,), candidates[1:])):
        accumulator = CocoAccumulator("segm")
        accumulator.add(0, image(*true), given, [each.score for each in given])
        results.append(accumulator.per_class(1)[0])
    assert results[0] == results[1]
    assert results[0].ap == pytest.approx(0.5)  # the detection of nothing ranks above the object's
    assert semantic_overlap([ROUND], [mask, boxed(ROUND)]) == (0, 0)


def test_verdicts_count_them_and_overlaps_do_not() -> None:
    accumulator = MeasureAccumulator(["dog"])
    candidates = [found(ROUND, 0.9), found(ELSEWHERE, 0.8)]
    measured = accumulator.add(0, image(boxed(ROUND), GroundTruthInstance(0, ELSEWHERE)), candidates, [True, True])
    (dog,) = accumulator.result().classes
    assert (dog.objects, dog.matched, dog.false_negatives, dog.false_positives) == (2, 2, 0, 0)
    assert (dog.overlap.pairs, dog.overlap.iou, dog.semantic_iou, measured.score) == (1, 1.0, None, 1.0)
    assert (dog.mask.ap, dog.box.ap) == (pytest.approx(1), pytest.approx(1))
