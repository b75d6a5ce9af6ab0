from __future__ import annotations

import numpy as np
import pytest

from labeler.geometry.crops import tight_crops
from labeler.geometry.masks import mask_to_rle
from tests.support.hard_masks import HARD_MASKS


def test_crops_of_many_masks() -> None:
    """Masks of one size together, empty ones and ones that fill columns among them, against the pixels themselves."""
    rng = np.random.default_rng(3)
    for _ in range(150):
        height, width = rng.integers(1, 40, 2)
        masks = [rng.random((height, width)) < rng.choice([0, 0.02, 0.3, 0.9, 1]) for _ in range(rng.integers(1, 9))]
        masks[0][:, rng.integers(width)] = True
        for mask, crop in zip(masks, tight_crops([mask_to_rle(mask) for mask in masks]), strict=True):
            rows, columns = mask.nonzero()
            if not rows.size:
                assert crop.columns.size == 0
                continue
            assert (crop.x, crop.y) == (columns.min(), rows.min())
            inside = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            np.testing.assert_array_equal(crop.columns.T, inside)


@pytest.mark.parametrize("name", HARD_MASKS)
def test_crops_of_hard_masks(name: str) -> None:
    mask = HARD_MASKS[name]
    (crop,) = tight_crops([mask_to_rle(mask)])
    back = np.zeros_like(mask)
    width, height = crop.columns.shape
    back[crop.y : crop.y + height, crop.x : crop.x + width] = crop.columns.T
    np.testing.assert_array_equal(back, mask)


def test_no_masks() -> None:
    assert list(tight_crops([])) == []


@pytest.mark.parametrize("counts", [b"", b"d", b"02", b"\xff1"])
def test_damaged_counts(counts: bytes) -> None:
    with pytest.raises(ValueError, match="RLE counts"):
        list(tight_crops([{"size": [4, 5], "counts": counts}]))
