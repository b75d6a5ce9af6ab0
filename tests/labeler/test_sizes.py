"""Sizes and numbers from files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labeler.geometry.masks import checked_rle, mask_to_rle
from labeler.geometry.polygons import polygons_to_rle
from labeler.sizes import MAX_PIXELS, MAX_SIDE, checked_size, finite_number

IMPOSSIBLE = [
    0, -1, True, False, None, "640", "", [640], {}, 0.5, float("nan"), float("inf"), 10**9, 10**400, 2**63,
    MAX_SIDE + 1,
]  # fmt: skip


@pytest.mark.parametrize("side", IMPOSSIBLE, ids=lambda side: f"{side!r:.20}")
def test_impossible_sides(side: Any) -> None:
    for width, height in ((side, 10), (10, side), (side, side)):
        with pytest.raises(ValueError, match="a size of ") as raised:
            checked_size(width, height)
        assert len(str(raised.value)) < 250
        assert "\n" not in str(raised.value)
        with pytest.raises(ValueError, match="a size of "):
            checked_rle({"size": [height, width], "counts": "0"})
        with pytest.raises(ValueError, match="a size of "):
            polygons_to_rle([[0, 0, 1, 0, 1, 1]], height, width)


def test_possible_sizes() -> None:
    assert checked_size(1, 1) == (1, 1)
    assert checked_size(MAX_SIDE, 1) == (MAX_SIDE, 1)
    assert checked_size(40_000, MAX_PIXELS // 40_000) == (40_000, 25_000)
    assert [type(side) for side in checked_size(640.0, 480.0)] == [int, int]
    with pytest.raises(ValueError, match="100000 x 100000"):
        checked_size(100_000, 100_000)


def test_finite_numbers() -> None:
    assert [finite_number(value, "x") for value in (0, -2, 1.5, 10**300)] == [0.0, -2.0, 1.5, 1e300]
    for value in (True, None, "1", [1], float("nan"), float("-inf"), 10**400, 10**5000):
        with pytest.raises(ValueError, match="x must be a finite number"):
            finite_number(value, "x")


GOOD = mask_to_rle(np.eye(20, 30, dtype=bool))
TEXT = GOOD["counts"].decode()


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([20], TEXT),
        ([20, 30, 1], TEXT),
        ("20", TEXT),
        ({"20": 30}, TEXT),
        (None, TEXT),
        (600, TEXT),
        ([30, 20, 1], TEXT),
        ([20, 31], TEXT),
        ([20, 30], None),
        ([20, 30], 600),
        ([20, 30], 10**12),  # bytes(10**12) would ask for a terabyte
        ([20, 30], [600]),
        ([20, 30], {"0": 600}),
        ([20, 30], ""),
        ([20, 30], TEXT[:-1]),
        ([20, 30], TEXT + "0"),
        ([20, 30], "é" + TEXT),
        ([20, 30], "\ud800" + TEXT),
        ([20, 30], "\0" + TEXT),
        ([20, 30], "0" * 10_000),
        ([20, 30], "o" * 9 + "0"),
    ],
)
def test_damaged_rles(size: Any, counts: Any) -> None:
    with pytest.raises(ValueError, match=r"\S") as raised:
        checked_rle({"size": size, "counts": counts})
    assert not isinstance(raised.value, UnicodeError)


def test_not_an_rle() -> None:
    for content in (None, [], "x", 5, {}):
        with pytest.raises(ValueError, match="expected a mask with a size"):
            checked_rle(content)
    assert checked_rle({"size": [20, 30], "counts": TEXT}) == GOOD
    assert checked_rle({"size": (20, 30), "counts": TEXT.encode()}) == GOOD


@pytest.mark.parametrize(
    ("polygons", "says"),
    [
        ([], "empty"),
        ([[]], "at least three"),
        ([[1, 2, 3, 4]], "at least three"),
        ([[1, 2, 3, 4, 5, 6, 7]], "at least three"),
        ([[[1, 2], [3, 4], [5, 6]]], "at least three"),
        ([["1", "2", "3", "4", "5", "6"]], "not a list of numbers"),
        ([[1, 2, 3, 4, 5, None]], "not a list of numbers"),
        ([[True] * 6], "not a list of numbers"),
        ([[1, 2, 3, 4, 5, [6]]], "not a list of numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "far outside"),
        ([[1, 2, 3, 4, 5, float("inf")]], "far outside"),
        ([[1, 2, 3, 4, 5, 1e9]], "far outside"),
        ([[1, 2, 3, 4, 5, 10**400]], "not a list of numbers"),
        ([[1, 2, 3, 4, 5, {}]], "not a list of numbers"),
        ([7], "not a list of|at least three"),
        ([[0, 0, 90, 90] * 100_000], "longer than"),  # pycocotools would ask for gigabytes
    ],
)
def test_damaged_polygons(polygons: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        polygons_to_rle(polygons, 100, 100)
