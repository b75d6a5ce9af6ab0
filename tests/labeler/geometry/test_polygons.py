from __future__ import annotations

import cv2
import numpy as np
import pytest

from labeler.geometry.masks import mask_to_rle, rle_to_mask
from labeler.geometry.polygons import (
    mask_to_polygons,
    mask_to_single_polygon,
    masks_to_single_polygons,
    polygons_to_rle,
    single_polygon_to_mask,
)
from tests.support.hard_masks import HARD_MASKS, random_masks


def parts(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] - 1


def through_single_polygon(mask: np.ndarray) -> np.ndarray:
    return single_polygon_to_mask(mask_to_single_polygon(mask).astype(np.float64), *mask.shape)


def test_coco_polygons_round_trip_hard_masks() -> None:
    for name, mask in HARD_MASKS.items():
        polygons = mask_to_polygons(mask)
        assert len(polygons) == parts(mask), name
        np.testing.assert_array_equal(rle_to_mask(polygons_to_rle(polygons, *mask.shape)), mask, name)


def test_single_polygon_round_trips_hard_masks_except_for_bridges() -> None:
    for name, mask in HARD_MASKS.items():
        back = through_single_polygon(mask)
        assert not (mask & ~back).any(), name
        if parts(mask) == 1:
            np.testing.assert_array_equal(back, mask, name)


def test_random_masks() -> None:
    for mask in random_masks(800):
        rle = mask_to_rle(mask)
        polygons = mask_to_polygons(rle)
        assert polygons == mask_to_polygons(mask)
        np.testing.assert_array_equal(rle_to_mask(polygons_to_rle(polygons, *mask.shape)), mask)
        back = through_single_polygon(mask)
        assert not (mask & ~back).any()
        assert parts(back) == 1
        if parts(mask) == 1:
            np.testing.assert_array_equal(back, mask)
        np.testing.assert_array_equal(mask_to_single_polygon(rle), mask_to_single_polygon(mask))


def test_bridges_are_the_shortest() -> None:
    """No more pixels are painted than along the minimum spanning tree of all pairs of parts, found by brute force."""
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    checked = 0
    for mask in random_masks(120, seed=5):
        count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
        if not 3 <= count <= 12:
            continue
        checked += 1
        pixels = [np.argwhere(labels == part) for part in range(1, count)]
        gaps = np.array([[cdist(a, b).min() for b in pixels] for a in pixels])
        shortest = minimum_spanning_tree(gaps).sum()
        # A bridge paints the pixels between its ends, at most its length - 1.
        painted = (through_single_polygon(mask) & ~mask).sum()
        assert painted <= 1.01 * shortest - len(pixels) + 1
    assert checked > 10


def test_polygons_have_no_needless_points() -> None:
    mask = np.zeros((50, 60), dtype=bool)
    mask[10:20, 5:30] = True
    assert mask_to_polygons(mask) == [[5, 10, 5, 20, 30, 20, 30, 10]]
    assert mask_to_single_polygon(mask).tolist() == [[5, 10], [5, 19], [29, 19], [29, 10]]


@pytest.mark.parametrize("name", ["one pixel", "one pixel image", "two pixels", "two pixels by corner"])
def test_single_polygon_has_three_points(name: str) -> None:
    assert len(mask_to_single_polygon(HARD_MASKS[name])) == 3


def test_empty_mask() -> None:
    mask = np.zeros((5, 6), dtype=bool)
    for empty in (mask, mask_to_rle(mask)):
        assert mask_to_polygons(empty) == []
        assert mask_to_single_polygon(empty).shape == (0, 2)


def test_column_major_masks() -> None:
    for mask in HARD_MASKS.values():
        assert mask_to_polygons(np.asfortranarray(mask)) == mask_to_polygons(mask)


def test_single_polygons_of_many_masks() -> None:
    """Together as one by one; those with one outline follow the contour that OpenCV finds in the whole mask."""
    rng = np.random.default_rng(8)
    followed = 0
    for _ in range(60):
        masks = [cv2.GaussianBlur(rng.random((30, 40)), (0, 0), rng.uniform(0.4, 5)) for _ in range(5)]
        masks = [values > np.quantile(values, rng.choice([0.1, 0.7, 0.98])) for values in masks]
        polygons = list(masks_to_single_polygons([mask_to_rle(mask) for mask in masks]))
        for mask, polygon in zip(masks, polygons, strict=True):
            np.testing.assert_array_equal(polygon, mask_to_single_polygon(mask))
            contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            if len(contours) == 1 and len(contours[0]) > 2:
                np.testing.assert_array_equal(polygon, contours[0][:, 0])
                followed += 1
    assert followed > 20


def test_outline_that_comes_back_to_its_first_pixel() -> None:
    mask = np.zeros((6, 9), dtype=bool)
    mask[1, 4] = mask[1, 5:7] = True
    mask[2:4, 1:4] = True
    mask[3, 3:7] = True
    np.testing.assert_array_equal(through_single_polygon(mask), mask)
    np.testing.assert_array_equal(mask_to_single_polygon(mask_to_rle(mask)), mask_to_single_polygon(mask))
