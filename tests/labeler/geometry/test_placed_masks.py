"""Masks moved as RLE against the same on dense arrays, encoded by pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from labeler.geometry.masks import mask_to_rle
from labeler.geometry.placed_masks import rle_mirrored, rle_placed


def test_as_on_dense_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        height, width, below, right, y, x = (int(n) for n in rng.integers((1, 1, 0, 0, 0, 0), (9, 9, 4, 4, 4, 4)))
        mask = rng.random((height, width)) < rng.choice([0, 0.2, 0.5, 0.9, 1])
        larger = np.zeros((y + height + below, x + width + right), dtype=bool)
        larger[y : y + height, x : x + width] = mask
        assert rle_mirrored(mask_to_rle(mask)) == mask_to_rle(mask[:, ::-1])
        assert rle_placed(mask_to_rle(mask), x, y, larger.shape[1], larger.shape[0]) == mask_to_rle(larger)


@pytest.mark.parametrize(("x", "y"), [(-1, 0), (0, -1), (3, 0), (0, 3)])
def test_what_does_not_fit_is_refused(x: int, y: int) -> None:
    with pytest.raises(ValueError, match=r"a mask of 4 x 6 at .* is not inside 6 x 8 pixels"):
        rle_placed(mask_to_rle(np.ones((6, 4), dtype=bool)), x, y, 6, 8)
