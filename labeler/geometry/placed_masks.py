"""Masks moved to another place, as RLE: into a larger image, or mirrored. No mask is decoded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labeler.geometry.masks import Rle, ends_to_rle, rle_runs

Ints = npt.NDArray[np.int64]


class _Strokes(NamedTuple):
    """The foreground of a mask, cut at the ends of columns: its columns, and rows from ``starts`` up to ``stops``.

    Each is int64 ``(n,)``.
    """

    columns: Ints
    starts: Ints
    stops: Ints


def rle_placed(rle: Rle, x: int, y: int, width: int, height: int) -> Rle:
    """The mask in an image of ``width`` x ``height`` pixels, with its top left corner at ``x``, ``y``.

    Raises:
        ValueError: it does not lie inside that image, or see ``rle_runs``.
    """
    own_height, own_width = rle["size"]
    if x < 0 or y < 0 or x + own_width > width or y + own_height > height:
        raise ValueError(f"a mask of {own_width} x {own_height} at {x}, {y} is not inside {width} x {height} pixels")
    if (x, y, own_width, own_height) == (0, 0, width, height):
        return rle
    columns, starts, stops = _strokes(rle)
    return _rle_of(_Strokes(columns + x, starts + y, stops + y), width, height)


def rle_mirrored(rle: Rle) -> Rle:
    """The mask of the image mirrored left to right."""
    height, width = rle["size"]
    columns, starts, stops = _strokes(rle)
    columns = width - 1 - columns
    order = np.argsort(columns, kind="stable")  # within a column, strokes stay from top to bottom
    return _rle_of(_Strokes(columns[order], starts[order], stops[order]), width, height)


def _strokes(rle: Rle) -> _Strokes:
    height = rle["size"][0]
    ends = np.cumsum(rle_runs(rle))
    stops = ends[1::2]
    starts = ends[::2][: stops.size]
    starts, stops = starts[starts < stops], stops[starts < stops]
    first = starts // height
    pieces = (stops - 1) // height - first + 1
    run = np.repeat(np.arange(starts.size), pieces)
    columns = first[run] + np.arange(run.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    top = columns * height
    return _Strokes(columns, np.maximum(starts[run] - top, 0), np.minimum(stops[run] - top, height))


def _rle_of(strokes: _Strokes, width: int, height: int) -> Rle:
    """The RLE of strokes sorted by column and row; those that touch across the end of a column become one run."""
    starts = strokes.columns * height + strokes.starts
    stops = strokes.columns * height + strokes.stops
    apart = starts[1:] > stops[:-1]
    count = starts.size  # 0 for an empty mask
    begins, ends = np.append(True, apart)[:count], np.append(apart, True)[:count]
    edges = np.stack([starts[begins], stops[ends]], axis=1).ravel()
    return ends_to_rle(edges, width, height)
