"""Tiles of images whose sizes are easy to check by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from labeler.geometry.tiles import shared_box, tile_boxes, tile_count


def test_by_hand() -> None:
    assert tile_boxes(100, 50, 64, 0.25) == [(0, 0, 64, 50), (36, 0, 100, 50)]
    assert tile_boxes(64, 64, 64, 0.5) == [(0, 0, 64, 64)]
    assert tile_boxes(200, 100, 100, 0) == [(0, 0, 100, 100), (100, 0, 200, 100)]
    assert [x for x, *_ in tile_boxes(960, 320, 320, 0.25)] == [0, 213, 427, 640]


@pytest.mark.parametrize("overlap", [0, 0.25, 0.5, 0.89])
def test_every_pixel_is_in_a_tile_and_neighbours_overlap_enough(overlap: float) -> None:
    for width, height in ((65, 64), (333, 100), (1000, 700)):
        boxes = tile_boxes(width, height, 64, overlap)
        covered = np.zeros((height, width), dtype=bool)
        for x1, y1, x2, y2 in boxes:
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            assert max(x2 - x1, y2 - y1) == 64
            covered[y1:y2, x1:x2] = True
        assert covered.all()
        assert len(boxes) == len(set(boxes)) == tile_count(width, height, 64, overlap)
        across = sorted({x1 for x1, *_ in boxes})
        assert all(64 - (later - x) >= int(64 * overlap) for x, later in pairwise(across))


def test_shared_box() -> None:
    assert shared_box((0, 0, 10, 10), (6, 4, 16, 14)) == (6, 4, 10, 10)
    assert shared_box((0, 0, 10, 10), (10, 0, 20, 10)) is None
