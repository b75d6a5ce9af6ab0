"""IoU variants, compared with hand-made geometry, brute force over pixels and published code."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from labeler.geometry.masks import mask_iou, mask_to_rle, rle_box_xyxy, rle_crop, rle_to_mask
from labeler.ground_truth import GroundTruthInstance
from labeler.metrics.iou import boundary_iou, semantic_overlap, tolerant_iou
from tests.support.hard_masks import HARD_MASKS, random_masks

Mask = NDArray[np.bool_]


def box(x1: int, y1: int, x2: int, y2: int, width: int = 60, height: int = 40) -> Mask:
    mask = np.zeros((height, width), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def pairs() -> list[tuple[Mask, Mask]]:
    """Pairs of masks of the same size that overlap to various degrees."""
    rng = np.random.default_rng(0)
    made = []
    for mask in [*HARD_MASKS.values(), *random_masks(30)]:
        shift = rng.integers(-3, 4, size=2)
        made.append((np.roll(mask, shift.tolist(), (0, 1)), mask))
    return made


@pytest.mark.parametrize("name", HARD_MASKS)
def test_crops(name: str) -> None:
    mask = HARD_MASKS[name]
    height, width = mask.shape
    rle = mask_to_rle(mask)
    for x1, y1, x2, y2 in ((0, 0, width, height), tuple(map(int, rle_box_xyxy(rle))), (width // 3, 0, width, height)):
        np.testing.assert_array_equal(rle_crop(rle, x1, y1, x2, y2), mask[y1:y2, x1:x2])


def published_boundary(mask: NDArray[np.uint8], dilation_ratio: float = 0.02) -> NDArray[np.uint8]:
    """``mask_to_boundary`` as published in https://github.com/bowenc0221/boundary-iou-api."""
    h, w = mask.shape
    img_diag = np.sqrt(h**2 + w**2)
    dilation = int(round(dilation_ratio * img_diag))  # noqa: RUF046 as published
    if dilation < 1:
        dilation = 1
    new_mask = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    kernel = np.ones((3, 3), dtype=np.uint8)
    new_mask_erode = cv2.erode(new_mask, kernel, iterations=dilation)
    mask_erode = new_mask_erode[1 : h + 1, 1 : w + 1]
    return mask - mask_erode


@pytest.mark.parametrize("ratio", [0.02, 0.1])
def test_boundary_iou_equals_the_published_code(ratio: float) -> None:
    for one, other in pairs():
        a, b = (published_boundary(mask.astype(np.uint8), ratio) > 0 for mask in (one, other))
        wanted = (a & b).sum() / (a | b).sum()
        assert boundary_iou(mask_to_rle(one), mask_to_rle(other), ratio) == pytest.approx(wanted)


def test_boundary_iou_by_hand() -> None:
    # 60 x 40: the diagonal is 72.1, 0.02 of it is 1 pixel. Frames of 20 x 20 (76 pixels) and 18 x 20 (72 pixels)
    # share the left column (20), 17 more of the top row and 17 of the bottom.
    found, true = mask_to_rle(box(5, 5, 23, 25)), mask_to_rle(box(5, 5, 25, 25))
    assert boundary_iou(found, true) == pytest.approx(54 / (72 + 76 - 54))
    assert boundary_iou(true, true) == 1
    assert boundary_iou(mask_to_rle(box(0, 0, 0, 0)), mask_to_rle(box(0, 0, 0, 0))) == 0


def weights(true: Mask, width: int, weight: float) -> NDArray[np.float64]:
    """The weight of each pixel, with the band found by looking at each pixel's neighbourhood."""
    height, columns = true.shape
    found = np.ones(true.shape)
    for y in range(height):
        for x in range(columns):
            near = true[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
            if near.any() != near.all():
                found[y, x] = weight
    return found


@pytest.mark.parametrize(("width", "weight"), [(1, 0.0), (2, 0.5), (3, 0.25)])
def test_tolerant_iou_is_a_weighted_iou(width: int, weight: float) -> None:
    for found, true in pairs():
        weighted = weights(true, width, weight)
        whole = weighted[found | true].sum()
        plain = (found & true).sum() / (found | true).sum()
        wanted = weighted[found & true].sum() / whole if whole else plain
        assert tolerant_iou(mask_to_rle(found), mask_to_rle(true), width, weight) == pytest.approx(wanted)


def test_tolerant_iou_by_hand() -> None:
    true = mask_to_rle(box(10, 10, 30, 30))
    grown, shifted = mask_to_rle(box(8, 8, 32, 32)), mask_to_rle(box(15, 10, 35, 30))
    assert tolerant_iou(grown, true, 2, 0) == 1  # all differences are in the band
    assert tolerant_iou(grown, true, 2, 1) == pytest.approx(400 / 576)
    assert tolerant_iou(grown, true, 0, 0) == pytest.approx(400 / 576)
    # A band of 2 leaves a core of 16 x 16. The mask covers 13 of its columns, and 3 x 20 pixels beyond the band.
    assert tolerant_iou(shifted, true, 2, 0) == pytest.approx(13 * 16 / (16 * 16 + 3 * 20))
    # The image border is not a contour: a mask that touches it on three sides has a band on the fourth side only.
    left = mask_to_rle(box(0, 0, 20, 40))
    assert tolerant_iou(mask_to_rle(box(4, 0, 20, 40)), left, 2, 0) == pytest.approx(14 / 18)
    # If all pixels are in the band, the result is the plain IoU.
    thin = mask_to_rle(box(10, 10, 12, 30))
    assert tolerant_iou(mask_to_rle(box(10, 10, 11, 30)), thin, 3, 0) == pytest.approx(0.5)


def test_tolerant_iou_of_weight_one_is_iou() -> None:
    for found, true in pairs():
        rles = mask_to_rle(found), mask_to_rle(true)
        assert tolerant_iou(*rles, 2, 1.0) == pytest.approx(mask_iou([rles[0]], [rles[1]])[0, 0])


@pytest.mark.parametrize("seed", range(10))
def test_semantic_overlap_counts_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(count: int) -> list[Mask]:
        corners = rng.integers(0, 25, size=(count, 2)).tolist()
        return [box(x, y, x + 12, y + 9) for x, y in corners]

    found, true, crowd = some(rng.integers(0, 4)), some(rng.integers(0, 4)), some(rng.integers(0, 2))
    whole: list[Any] = [GroundTruthInstance(0, mask_to_rle(mask)) for mask in true]
    whole += [GroundTruthInstance(0, mask_to_rle(mask), crowd=True) for mask in crowd]
    empty = box(0, 0, 0, 0)
    a, b, left_out = (np.logical_or.reduce([empty, *masks]) for masks in (found, true, crowd))
    both, either = (a & b & ~left_out).sum(), ((a | b) & ~left_out).sum()
    assert semantic_overlap([mask_to_rle(mask) for mask in found], whole) == (both, either)


def test_masks_are_not_changed() -> None:
    mask = box(3, 3, 9, 9)
    rle = mask_to_rle(mask)
    semantic_overlap([rle, rle], [GroundTruthInstance(0, rle)])
    tolerant_iou(rle, rle, 2, 0)
    np.testing.assert_array_equal(rle_to_mask(rle), mask)
