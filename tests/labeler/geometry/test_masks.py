from __future__ import annotations

import numpy as np
import pytest

from labeler.geometry.masks import (
    clean_mask,
    mask_containment,
    mask_iou,
    mask_to_rle,
    rle_area,
    rle_box_xyxy,
    rle_runs,
    rle_to_mask,
)
from tests.support.hard_masks import HARD_MASKS, random_masks

ALL_MASKS = [*HARD_MASKS.values(), *random_masks(300)]


def test_rle_round_trip_area_box_and_runs() -> None:
    for mask in ALL_MASKS:
        rle = mask_to_rle(mask)
        rows, columns = np.nonzero(mask)
        assert rle["size"] == list(mask.shape)
        assert isinstance(rle["counts"], bytes)
        np.testing.assert_array_equal(rle_to_mask(rle), mask)
        assert rle_to_mask(rle).dtype == np.bool_
        assert rle_area(rle) == mask.sum()
        assert rle_box_xyxy(rle) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        runs = rle_runs(rle)
        np.testing.assert_array_equal(np.repeat(np.arange(runs.size) % 2 == 1, runs), mask.ravel(order="F"))


def test_empty_mask() -> None:
    rle = mask_to_rle(np.zeros((4, 5), dtype=bool))
    assert rle_area(rle) == 0
    assert rle_box_xyxy(rle) == (0, 0, 0, 0)
    assert rle_runs(rle).tolist() == [20]
    assert not clean_mask(np.zeros((4, 5), dtype=bool)).any()


@pytest.mark.parametrize(
    "counts",
    [
        b"",  # empty
        b"\xff",  # not a character of the encoding
        b"04",  # sums to 4, not 20
        b"o",  # the last number is incomplete
        b"o" * 30 + b"0",  # a number larger than any image
        b"0O",  # a negative run
    ],
)
def test_rle_runs_refuses_damaged_counts(counts: bytes) -> None:
    with pytest.raises(ValueError, match="RLE counts"):
        rle_runs({"size": [4, 5], "counts": counts})


def test_overlap_equals_numpy() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((20, 30)) < share for share in (0.0, 0.0, 0.05, 0.3, 0.6, 1.0)]
    masks += [np.pad(np.ones((5, 5), dtype=bool), ((2, 13), (x, 25 - x))) for x in (0, 3, 20)]
    rles = [mask_to_rle(mask) for mask in masks]
    common = np.array([[(a & b).sum() for b in masks] for a in masks])
    union = np.array([[(a | b).sum() for b in masks] for a in masks])
    area = np.array([[a.sum()] for a in masks])
    np.testing.assert_allclose(mask_iou(rles, rles), common / np.maximum(union, 1))
    np.testing.assert_allclose(mask_containment(rles, rles), common / np.maximum(area, 1))
    assert mask_iou(rles[:3], rles).shape == (3, 9)
    assert mask_iou(rles, []).shape == (9, 0)
    assert mask_containment([], rles).shape == (0, 9)


class TestCleanMask:
    def test_drops_specks_and_fills_pinholes(self) -> None:
        body = np.zeros((40, 50), dtype=bool)
        body[5:35, 5:35] = True  # 900 pixels: the limit is about 9
        mask = body.copy()
        mask[10:12, 10:14] = False  # a pinhole of 8
        mask[20:23, 20:24] = False  # a hole of 12
        mask[21, 21] = True  # an island in it
        mask[38:40, 46:50] = True  # a speck of 8 in the image's corner
        mask[0:3, 46:50] = True  # a part of 12
        cleaned = clean_mask(mask)
        expected = body.copy()
        expected[20:23, 20:24] = False
        expected[0:3, 46:50] = True
        np.testing.assert_array_equal(cleaned, expected)

    def test_share_is_relative_to_the_object_and_zero_changes_nothing(self) -> None:
        mask = np.zeros((9, 9), dtype=bool)
        mask[2:6, 2:6] = True
        mask[4, 4] = False
        np.testing.assert_array_equal(clean_mask(mask, 0), mask)
        np.testing.assert_array_equal(clean_mask(mask, 1 / 16), mask)
        assert clean_mask(mask, 1 / 14)[4, 4]

    def test_connectivity(self) -> None:
        mask = np.zeros((40, 40), dtype=bool)
        mask[5:30, 5:30] = True
        mask[30, 30] = True  # connected at a corner: part of the mask
        mask[10, 10] = mask[11, 11] = False  # connected at a corner: two pinholes
        mask[29, 5] = False  # connected at a side: the outside
        mask[5, 29] = False
        cleaned = clean_mask(mask, 0.003)  # the limit is 1.8 pixels
        assert cleaned[30, 30]
        assert cleaned[10, 10]
        assert cleaned[11, 11]
        assert not cleaned[29, 5]

    def test_the_largest_part_always_stays(self) -> None:
        for mask in ALL_MASKS:
            before = mask.copy()
            cleaned = clean_mask(mask, 1.0)
            np.testing.assert_array_equal(mask, before)
            assert cleaned.any()
            assert cleaned.dtype == np.bool_

    def test_does_not_touch_the_outside(self) -> None:
        for mask in HARD_MASKS.values():
            x1, y1, x2, y2 = map(int, rle_box_xyxy(mask_to_rle(mask)))
            outside = np.ones(mask.shape, dtype=bool)
            outside[y1:y2, x1:x2] = False
            assert not (clean_mask(mask) & outside).any()

    def test_reads_column_major_and_sliced_masks(self) -> None:
        mask = HARD_MASKS["dense noise"]
        expected = clean_mask(mask)
        np.testing.assert_array_equal(clean_mask(np.asfortranarray(mask)), expected)
        np.testing.assert_array_equal(clean_mask(np.pad(mask, 3)[3:-3, 3:-3]), expected)
