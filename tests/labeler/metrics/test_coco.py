"""COCO metrics, compared with pycocotools, the ``lvis`` package if it is installed, and the rules of LVIS by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from labeler.geometry.masks import rle_area, rle_box_xyxy
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.metrics.coco import LVIS_LIMIT, CocoAccumulator, CocoMetrics
from labeler.metrics.matching import match_detections
from labeler.records import Instance
from tests.support.made_up import CLASSES, Found, as_coco, as_results, by_pycocotools, ellipse, made_up

KINDS: tuple[Literal["segm", "bbox"], ...] = ("segm", "bbox")


def measured(
    images: Sequence[GroundTruthImage],
    found: Found,
    kind: Literal["segm", "bbox"],
    image_limit: int | None = None,
    order: Sequence[int] | None = None,
) -> list[CocoMetrics]:
    accumulator = CocoAccumulator(kind, image_limit)
    for position in order or range(len(images)):
        scores = [each.score for each in found[position]]
        accumulator.add(position, images[position], found[position], scores)
    return accumulator.per_class(CLASSES)


def as_stats(metrics: CocoMetrics) -> list[float]:
    return [-1 if value is None else value for value in astuple(metrics)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_the_twelve_metrics_equal_those_of_pycocotools(kind: Literal["segm", "bbox"], seed: int) -> None:
    images, found = made_up(seed=seed)
    wanted = by_pycocotools(images, found, kind)
    of_classes = measured(images, found, kind)
    assert as_stats(CocoMetrics.mean(of_classes)) == pytest.approx(wanted.stats.tolist(), abs=1e-12)
    assert wanted.stats.min() > 0  # none of them is trivial
    for class_id, each in enumerate(of_classes):
        precision = wanted.eval["precision"][:, :, class_id, 0, 2]
        assert (-1 if each.ap is None else each.ap) == pytest.approx(precision.mean(), abs=1e-12)
    assert of_classes[CLASSES - 1] == CocoMetrics()


def test_the_order_of_images_does_not_matter() -> None:
    images, found = made_up(seed=5)
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    assert measured(images, found, "segm", order=order) == measured(images, found, "segm")


def test_absent_sizes_are_none() -> None:
    image = GroundTruthImage("a", 320, 240, (GroundTruthInstance(0, ellipse((50, 50), (5, 5))),))
    metrics = CocoMetrics.mean(measured([image], [[]], "segm"))
    assert (metrics.ap, metrics.ap_small, metrics.ap_medium, metrics.ap_large) == (0, 0, None, None)
    assert (metrics.ar, metrics.ar_large) == (0, None)
    assert CocoMetrics.mean([]) == CocoMetrics()


def federated(images: Sequence[GroundTruthImage], seed: int = 0) -> list[GroundTruthImage]:
    """Images that were searched for only some of the classes, some of which are not exhaustively labeled."""
    rng = np.random.default_rng(seed)
    made = []
    for image in images:
        present = {each.class_id for each in image.instances}
        absent = {class_id for class_id in range(CLASSES) if class_id not in present and rng.random() < 0.5}
        lenient = {class_id for class_id in present if rng.random() < 0.3}
        made.append(replace(image, absent=frozenset(absent), not_exhaustive=frozenset(lenient)))
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_lvis_metrics_equal_those_of_the_lvis_package(
    tmp_path: Path, kind: Literal["segm", "bbox"], monkeypatch: pytest.MonkeyPatch
) -> None:
    lvis = pytest.importorskip("lvis")
    monkeypatch.setattr(np, "float", float, raising=False)  # the package uses a name that NumPy has removed
    images, found = made_up(30, seed=1, crowds=False)
    images = federated(images)
    found[5] = (found[5] + found[6] + found[3]) * 3  # more than 300
    content = as_coco(images)
    for image, entry in zip(images, content["images"], strict=True):
        entry["neg_category_ids"] = [class_id + 1 for class_id in sorted(image.absent or ())]
        entry["not_exhaustive_category_ids"] = [class_id + 1 for class_id in sorted(image.not_exhaustive)]
    for category, frequency in zip(content["categories"], "rcff", strict=True):
        category["frequency"] = frequency
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content, default=lambda data: data.decode()))
    evaluation = lvis.LVISEval(lvis.LVIS(str(path)), as_results(found, kind), kind)
    evaluation.run()
    results = evaluation.get_results()
    of_classes = measured(images, found, kind, LVIS_LIMIT)
    total = CocoMetrics.mean(of_classes)
    figures = (total.ap, total.ap50, total.ap75, total.ap_small, total.ap_medium, total.ap_large)
    for name, value in zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), figures, strict=True):
        assert value == pytest.approx(results[name], abs=1e-9), name
    for name, group in (("APr", of_classes[:1]), ("APc", of_classes[1:2]), ("APf", of_classes[2:])):
        assert CocoMetrics.mean(group).ap == pytest.approx(results[name], abs=1e-9), name
    for name, value in (("AR@300", total.ar), ("ARs@300", total.ar_small), ("ARl@300", total.ar_large)):
        assert value == pytest.approx(results[name], abs=1e-9), name


def candidate(class_id: int, rle: Any, score: float) -> Instance:
    return Instance(class_id, "", rle_box_xyxy(rle), score, 1.0, 1.0, rle_area(rle), rle)


def test_the_rules_of_lvis_by_hand() -> None:
    here, there = ellipse((60, 60), (20, 20)), ellipse((200, 150), (20, 20))

    def ap(image: GroundTruthImage, candidates: list[Instance], image_limit: int | None = None) -> float | None:
        return measured([image], [candidates], "segm", image_limit)[0].ap

    objects = (GroundTruthInstance(0, here),)
    wrong_first = [candidate(0, there, 0.9), candidate(0, here, 0.8)]
    assert ap(GroundTruthImage("a", 320, 240, objects), wrong_first) == pytest.approx(0.5)
    # In a class that is not exhaustively labeled, unmatched detections are not counted.
    assert ap(GroundTruthImage("a", 320, 240, objects, not_exhaustive=frozenset({0})), wrong_first) == pytest.approx(1)
    # In an image that was not searched for a class, its detections are not counted.
    images = [GroundTruthImage("a", 320, 240, objects), GroundTruthImage("b", 320, 240, (), absent=frozenset({1}))]
    found = [[candidate(0, here, 0.8)], [candidate(0, there, 0.9)]]
    assert measured(images, found, "segm")[0].ap == pytest.approx(1)
    images[1] = replace(images[1], absent=frozenset({0}))
    assert measured(images, found, "segm")[0].ap == pytest.approx(0.5)
    # At most 300 detections per image count, over all classes.
    many = [candidate(1, there, 0.9)] * 300 + [candidate(0, here, 0.8)]
    assert ap(GroundTruthImage("a", 320, 240, objects), many) == pytest.approx(1)
    assert ap(GroundTruthImage("a", 320, 240, objects), many, LVIS_LIMIT) == 0
    assert ap(GroundTruthImage("a", 320, 240, objects), many[1:], LVIS_LIMIT) == pytest.approx(1)


def test_matching_is_that_of_pycocotools() -> None:
    """With equal IoUs, crowds, and objects that do not count, at every threshold and range of areas."""
    rng = np.random.default_rng(4)
    evaluation = COCOeval(iouType="bbox")
    params = evaluation.params
    ranges, limit = params.areaRng, params.maxDets[-1]
    for _ in range(150):
        count, objects = int(rng.integers(1, 7)), int(rng.integers(1, 6))
        ious = rng.choice([0, 0.5, 0.55, 0.7, 0.75, 0.949, 1], (count, objects))
        crowd = rng.random(objects) < 0.3
        areas = rng.choice([500.0, 32.0**2, 5000.0, 20000.0], objects)
        outside = np.array([[not low <= area <= high for area in areas] for low, high in ranges])
        matched, ignored = match_detections(ious, params.iouThrs, crowd | outside, crowd)
        evaluation._gts[0, 0] = [
            {"id": n + 1, "area": area, "iscrowd": int(is_crowd), "ignore": int(is_crowd)}
            for n, (area, is_crowd) in enumerate(zip(areas, crowd, strict=True))
        ]
        evaluation._dts[0, 0] = [{"id": n + 1, "score": 1 - n / 10, "area": 5000.0} for n in range(count)]
        evaluation.ious = {(0, 0): ious}
        for index, each in enumerate(ranges):
            expected = evaluation.evaluateImg(0, 0, each, limit)
            np.testing.assert_array_equal(matched[index], expected["dtMatches"].T > 0)
            np.testing.assert_array_equal(ignored[index], expected["dtIgnore"].T * matched[index] > 0)
