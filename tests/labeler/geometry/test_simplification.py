from __future__ import annotations

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy.spatial import cKDTree

from labeler.geometry.masks import mask_iou, mask_to_rle, rle_area, rle_to_mask
from labeler.geometry.polygon_rule import EXACT, PolygonRule
from labeler.geometry.polygons import mask_to_polygons, mask_to_single_polygon, polygons_to_rle
from labeler.geometry.simplification import (
    coco_outlines,
    simplified,
    single_polygon_iou,
    without_small_parts,
    yolo_drawn,
    yolo_polygons,
)
from tests.support.hard_masks import HARD_MASKS, iou, random_masks

STEP = 0.2  # pixels between samples of an outline
NOISY = ("sparse noise", "dense noise", "checkerboard", "many parts")  # points by the thousand
MASKS = [*(mask for name, mask in HARD_MASKS.items() if name not in NOISY), *random_masks(25, seed=3)]


def samples(polygon: np.ndarray) -> np.ndarray:
    """Points along a closed outline, at most ``STEP`` apart."""
    steps = np.roll(polygon, -1, axis=0) - polygon.astype(float)
    counts = 1 + (np.hypot(*steps.T) / STEP).astype(int)
    edge = np.repeat(np.arange(len(polygon)), counts)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    return polygon[edge] + steps[edge] * (place / counts[edge])[:, None]


def hausdorff(a: np.ndarray, b: np.ndarray) -> float:
    one, other = samples(a), samples(b)
    return max(cKDTree(one).query(other)[0].max(), cKDTree(other).query(one)[0].max())


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    rings = [np.array(ring, dtype=np.int32).reshape(-1, 2) for ring in mask_to_polygons(mask)]
    return [*rings, mask_to_single_polygon(mask)]


@pytest.mark.parametrize("tolerance", [0.5, 2.5])
def test_distance_is_within_the_bound(tolerance: float) -> None:
    exact = [polygon for mask in MASKS for polygon in outlines(mask)]
    fewer = 0
    for polygon, found in zip(exact, simplified(exact, tolerance), strict=True):
        assert hausdorff(polygon, found) <= tolerance + STEP
        assert len(found) >= 3
        fewer += len(polygon) - len(found)
    assert fewer > 1000


def test_points_are_some_of_the_exact_ones_in_their_order() -> None:
    for mask in MASKS:
        polygon = mask_to_single_polygon(mask)
        exact, (found,) = list(map(tuple, polygon.tolist())), simplified([polygon], 2)
        rest = iter(exact)
        assert all(tuple(point) in rest for point in found.tolist())
        np.testing.assert_array_equal(*simplified([polygon], 0), polygon)


def test_each_polygon_is_simplified_by_itself() -> None:
    polygons = [np.zeros((0, 2), np.int32), *(polygon for mask in MASKS for polygon in outlines(mask))]
    for polygon, found in zip(polygons, simplified(polygons, 1.5), strict=True):
        np.testing.assert_array_equal(found, *simplified([polygon], 1.5))
    assert simplified([], 1.5) == []


def test_by_hand() -> None:
    """A square of 20 with a bump one pixel high on its upper side."""
    square = np.array([[0, 0], [9, 0], [9, -1], [11, -1], [11, 0], [20, 0], [20, 20], [0, 20]], dtype=np.int32)
    corners = [[0, 0], [20, 0], [20, 20], [0, 20]]
    # A spike that turns back is not cut off, though it lies on the line of the side that would replace it.
    spike = np.array([[0, 0], [30, 0], [10, 0], [10, 10], [0, 10]], dtype=np.int32)
    ((first, pointed), (rest,)) = simplified([square, spike], 1.0), simplified([square], 0.9)
    assert first.tolist() == corners
    assert rest.tolist() != corners
    assert [30, 0] in pointed.tolist()


def test_bridges_to_holes_stay_closed() -> None:
    """What the mask gains or loses lies along its outline and its holes, never along a bridge."""
    mask = np.zeros((120, 120), dtype=np.uint8)
    cv2.circle(mask, (60, 60), 55, 1, -1)
    cv2.circle(mask, (70, 60), 20, 0, -1)
    inside = cv2.erode(mask, np.ones((9, 9), dtype=np.uint8), borderValue=0).astype(bool)
    outside = ~cv2.dilate(mask, np.ones((9, 9), dtype=np.uint8)).astype(bool)
    rle = mask_to_rle(mask.astype(bool))
    ((polygons, _),) = coco_outlines([rle], PolygonRule(2.0))
    found = rle_to_mask(polygons_to_rle(polygons, 120, 120))
    assert found[inside].all()
    assert not found[outside].any()
    assert len(polygons[0]) < len(mask_to_polygons(rle)[0]) / 2


def test_iou_is_that_of_the_pixels() -> None:
    for mask in MASKS:
        rle = mask_to_rle(mask)
        ((polygons, drawn),) = coco_outlines([rle], PolygonRule(1.5))
        (polygon,) = yolo_polygons([rle], PolygonRule(1.5))
        read = rle_to_mask(coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape)))
        np.testing.assert_array_equal(rle_to_mask(drawn), read)
        canvas = np.zeros(mask.shape, dtype=np.uint8)
        cv2.fillPoly(canvas, [polygon], 1)
        assert single_polygon_iou(rle, polygon) == pytest.approx(iou(mask, canvas.astype(bool)))
        np.testing.assert_array_equal(rle_to_mask(yolo_drawn(rle, PolygonRule(1.5))), canvas.astype(bool))
    assert single_polygon_iou(rle, polygon[:0]) == 0


def test_without_a_tolerance_polygons_are_exact() -> None:
    rles = [mask_to_rle(mask) for mask in MASKS]
    for mask, rle in zip(MASKS, rles, strict=True):
        for rule in (EXACT, PolygonRule(0.0, 1)):
            assert list(coco_outlines([rle], rule)) == [(mask_to_polygons(rle), rle)]
            (polygon,) = yolo_polygons([rle], rule)
            np.testing.assert_array_equal(polygon, mask_to_single_polygon(mask))
    assert list(coco_outlines([], PolygonRule(1.0))) == list(yolo_polygons([], PolygonRule(1.0))) == []


@pytest.mark.parametrize("rule", [PolygonRule(1.0, 4), PolygonRule(4.0), PolygonRule(1000.0, 1000)])
def test_no_object_is_lost(rule: PolygonRule) -> None:
    """However large the tolerance is for an object, readers see something of it."""
    for mask in HARD_MASKS.values():
        rle = mask_to_rle(mask)
        ((polygons, drawn),) = coco_outlines([rle], rule)
        assert all(len(polygon) >= 6 for polygon in polygons)
        assert rle_area(drawn) > 0
        assert rle_area(yolo_drawn(rle, rule)) > 0


def test_a_large_blob_keeps_its_shape_with_few_points() -> None:
    mask = np.zeros((400, 500), dtype=np.uint8)
    cv2.ellipse(mask, (250, 200), (220, 150), 20, 0, 360, 1, -1)
    rle = mask_to_rle(mask.astype(bool))
    ((polygons, drawn),) = coco_outlines([rle], PolygonRule(1.0))
    assert len(polygons[0]) < len(mask_to_polygons(rle)[0]) / 8
    assert mask_iou([rle], [drawn])[0, 0] > 0.985


@pytest.mark.parametrize(
    ("pixels", "areas"), [(0, [1, 4, 9]), (1, [1, 4, 9]), (2, [4, 9]), (5, [9]), (9, [9]), (10, [9]), (1000, [9])]
)
def test_small_parts_go_and_the_largest_stays(pixels: int, areas: list[int]) -> None:
    mask = np.zeros((30, 40), dtype=bool)
    mask[3, 4] = mask[10:12, 20:22] = mask[20:23, 30:33] = True
    found = rle_to_mask(without_small_parts(mask_to_rle(mask), pixels))
    count, _, statistics, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=8)
    assert sorted(statistics[1:count, cv2.CC_STAT_AREA].tolist()) == areas
    assert not (found & ~mask).any()


def test_polygons_are_those_of_the_mask_without_small_parts() -> None:
    mask = HARD_MASKS["two parts"].copy()
    mask[95:98, 3:6] = True
    rle, rest = mask_to_rle(mask), mask_to_rle(HARD_MASKS["two parts"])
    for simplify in (0.0, 1.0):
        ((polygons, drawn),) = coco_outlines([rle], PolygonRule(simplify, 10))
        assert (polygons, drawn) == next(iter(coco_outlines([rest], PolygonRule(simplify))))
        np.testing.assert_array_equal(*yolo_polygons([rle, rest], PolygonRule(simplify, 10)))
    assert len(next(iter(coco_outlines([rle], PolygonRule(0.0, 9)))).polygons) == 3


def test_small_parts_of_random_masks() -> None:
    for mask in MASKS:
        rle = mask_to_rle(mask)
        found = rle_to_mask(without_small_parts(rle, 6))
        _, parts = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        areas = np.bincount(parts[mask])
        expected = mask & ((areas >= 6) | (areas == areas.max()))[parts]
        assert found.sum() <= expected.sum()  # of several largest ones, the first stays
        assert not (found & ~expected).any()
        assert rle_area(without_small_parts(rle, 1)) == mask.sum()
    empty = mask_to_rle(np.zeros((5, 6), dtype=bool))
    assert without_small_parts(empty, 9) == empty
