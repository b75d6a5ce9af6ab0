from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from labeler.geometry.masks import mask_to_rle, rle_area, rle_to_mask
from labeler.geometry.polygons import mask_to_polygons, mask_to_single_polygon, polygons_to_rle
from labeler.geometry.simplification import (
    fewest_decimals,
    polygons_iou,
    simplified,
    simplified_polygons,
    simplified_single_polygon,
    single_polygon_iou,
    without_small_parts,
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


@pytest.mark.parametrize("tolerance", [0.5, 2.5])
def test_distance_is_within_the_bound(tolerance: float) -> None:
    fewer = 0
    for mask in MASKS:
        rings = [np.array(ring, dtype=np.int32).reshape(-1, 2) for ring in mask_to_polygons(mask)]
        for polygon in (*rings, mask_to_single_polygon(mask)):
            found = simplified(polygon, tolerance)
            assert hausdorff(polygon, found) <= tolerance + STEP
            assert len(found) >= 3
            fewer += len(polygon) - len(found)
    assert fewer > 1000


def test_points_are_some_of_the_exact_ones_in_their_order() -> None:
    for mask in MASKS:
        polygon = mask_to_single_polygon(mask)
        exact, found = list(map(tuple, polygon.tolist())), list(map(tuple, simplified(polygon, 2).tolist()))
        rest = iter(exact)
        assert all(point in rest for point in found)
        np.testing.assert_array_equal(simplified(polygon, 0), polygon)


def test_by_hand() -> None:
    """A square of 20 with a bump one pixel high on its upper side."""
    square = np.array([[0, 0], [9, 0], [9, -1], [11, -1], [11, 0], [20, 0], [20, 20], [0, 20]], dtype=np.int32)
    corners = [[0, 0], [20, 0], [20, 20], [0, 20]]
    assert simplified(square, 1.0).tolist() == corners
    assert simplified(square, 0.9).tolist() != corners
    assert simplified(np.roll(square, 3, axis=0), 1.0).tolist() != []
    # A spike that turns back is not cut off, though it lies on the line of the side that would replace it.
    spike = np.array([[0, 0], [30, 0], [10, 0], [10, 10], [0, 10]], dtype=np.int32)
    assert [30, 0] in simplified(spike, 2.0).tolist()


def test_bridges_to_holes_stay_closed() -> None:
    """What the mask gains or loses lies along its outline and its holes, never along a bridge."""
    mask = np.zeros((120, 120), dtype=np.uint8)
    cv2.circle(mask, (60, 60), 55, 1, -1)
    cv2.circle(mask, (70, 60), 20, 0, -1)
    inside = cv2.erode(mask, np.ones((9, 9), dtype=np.uint8), borderValue=0).astype(bool)
    outside = ~cv2.dilate(mask, np.ones((9, 9), dtype=np.uint8)).astype(bool)
    rle = mask_to_rle(mask.astype(bool))
    polygons = simplified_polygons(rle, 2.0)
    found = rle_to_mask(polygons_to_rle(polygons, 120, 120))
    assert found[inside].all()
    assert not found[outside].any()
    assert len(polygons[0]) < len(mask_to_polygons(rle)[0]) / 2


def test_iou_is_that_of_the_pixels() -> None:
    for mask in MASKS:
        rle = mask_to_rle(mask)
        polygons, polygon = simplified_polygons(rle, 1.5), simplified_single_polygon(rle, 1.5)
        from_coco = rle_to_mask(polygons_to_rle(polygons, *mask.shape))
        assert polygons_iou(rle, polygons) == pytest.approx(iou(mask, from_coco))
        canvas = np.zeros(mask.shape, dtype=np.uint8)
        cv2.fillPoly(canvas, [polygon], 1)
        assert single_polygon_iou(rle, polygon) == pytest.approx(iou(mask, canvas.astype(bool)))
        assert polygons_iou(rle, mask_to_polygons(rle)) == 1
    assert polygons_iou(rle, []) == single_polygon_iou(rle, polygon[:0]) == 0


def test_a_large_blob_keeps_its_shape_with_few_points() -> None:
    mask = np.zeros((400, 500), dtype=np.uint8)
    cv2.ellipse(mask, (250, 200), (220, 150), 20, 0, 360, 1, -1)
    rle = mask_to_rle(mask.astype(bool))
    polygons = simplified_polygons(rle, 1.0)
    assert len(polygons[0]) < len(mask_to_polygons(rle)[0]) / 8
    assert polygons_iou(rle, polygons) > 0.985


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


@pytest.mark.parametrize(("side", "decimals"), [(1, 2), (99, 3), (640, 4), (999, 4), (1001, 5), (4096, 5), (80_000, 6)])
def test_fewest_decimals_restore_every_pixel(side: int, decimals: int) -> None:
    assert fewest_decimals(side, 1, 0.05) == fewest_decimals(1, side, 0.05) == decimals
    pixels = np.arange(side)
    written = np.array([float(f"{value:.{decimals}f}") for value in (pixels + 0.45) / side]) * side
    np.testing.assert_array_equal(written.astype(int), pixels)
    np.testing.assert_array_equal(np.round(written).astype(int), pixels)
