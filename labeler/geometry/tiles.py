"""Tiles: overlapping parts of an image, boxes ``(x1, y1, x2, y2)`` along pixel edges."""

from __future__ import annotations

from math import ceil

Box = tuple[int, int, int, int]
AUTOMATIC_SIZES = (320, 640, 1280)
LEAST_GAIN = 1.5  # an automatic tile is used if the image is so many times as long
LEAST_AUTOMATIC_SIDE = ceil(LEAST_GAIN * AUTOMATIC_SIZES[0])


def tile_boxes(width: int, height: int, size: int, overlap: float) -> list[Box]:
    """Tiles of ``size`` pixels that cover an image, row by row; one box of the whole image if it is no larger.

    There are as few tiles as neighbours that share ``overlap`` of their side allow, spread evenly, so the outer ones
    end with the image and neighbours share a little more than asked. A side shorter than ``size`` is not divided.

    Args:
        size: side in pixels.
        overlap: in [0, 1).
    """
    across, down = (_starts(side, size, overlap) for side in (width, height))
    return [(x, y, min(x + size, width), min(y + size, height)) for y in down for x in across]


def tile_count(width: int, height: int, size: int, overlap: float) -> int:
    """The number of ``tile_boxes``."""
    return _count(width, size, overlap) * _count(height, size, overlap)


def _count(side: int, size: int, overlap: float) -> int:
    step = max(1, int(size * (1 - overlap)))
    return 1 if side <= size else 1 + ceil((side - size) / step)


def _starts(side: int, size: int, overlap: float) -> list[int]:
    last, gaps = max(side - size, 0), _count(side, size, overlap) - 1
    return [round(last * index / gaps) for index in range(gaps + 1)] if gaps else [0]


def shared_box(one: Box, other: Box) -> Box | None:
    """What two boxes share; None if that has no area."""
    x1, y1 = max(one[0], other[0]), max(one[1], other[1])
    x2, y2 = min(one[2], other[2]), min(one[3], other[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None
