"""Masks inside their tight boxes, from RLE. Nothing of the size of the image is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labeler.geometry.masks import Rle
from labeler.geometry.run_lengths import run_lengths


class Crop(NamedTuple):
    """A mask inside its tight box.

    Attributes:
        columns: uint8 ``(w, h)``, 0 or 1, transposed: a row for each column of the image, as in RLE.
        x, y: the top left corner of the box.
    """

    columns: npt.NDArray[np.uint8]
    x: int
    y: int


EMPTY = Crop(np.zeros((0, 0), dtype=np.uint8), 0, 0)


def tight_crops(rles: Sequence[Rle]) -> Iterator[Crop]:
    """The crop of each mask, one at a time; of an empty mask it has no pixel.

    Runs of all masks are decoded together, which is much faster than one mask after the other.

    Args:
        rles: masks of one size.

    Raises:
        ValueError: the counts of a mask are damaged or do not fit its size.
    """
    if not rles:
        return
    height, width = rles[0]["size"]
    runs = run_lengths([rle["counts"] for rle in rles])
    if (runs.pixels() != height * width).any():
        raise ValueError(f"RLE counts do not sum to {height} x {width}")
    # Where each run of foreground starts and stops, counted from the start of its mask.
    pairs = runs.pairs
    stops = pairs.ravel().cumsum()[1::2]
    starts = stops - pairs[:, 1]
    row_counts = np.append(runs.begins[1:], len(pairs)) - runs.begins
    first_pixels = (np.arange(len(rles)) * (height * width)).repeat(row_counts)
    starts -= first_pixels
    stops -= first_pixels
    is_run = pairs[:, 1] > 0
    counts = np.add.reduceat(is_run, runs.begins, dtype=np.int64)
    starts, stops = starts[is_run], stops[is_run]

    filled = counts[counts > 0]
    ends = filled.cumsum()
    begins = ends - filled
    columns = starts // height
    tops = starts - columns * height
    lengths = stops - starts
    left, right = columns[begins], (stops[ends - 1] - 1) // height + 1
    top = np.minimum.reduceat(tops, begins) if filled.size else left
    bottom = np.maximum.reduceat(tops + lengths, begins) if filled.size else left
    wraps = bottom > height  # a run goes on in the next column, so the box has the height of the image
    top[wraps], bottom[wraps] = 0, height
    tall = bottom - top
    # Now counted from the corner of the box, along its columns.
    starts = columns * tall.repeat(filled) + tops - (left * tall + top).repeat(filled)
    gaps = starts.copy()
    gaps[1:] -= starts[:-1] + lengths[:-1]
    gaps[begins] = starts[begins]
    # Each mask is a gap and a run in turn, and the rest of its box.
    masks = np.arange(filled.size)
    places = 2 * np.arange(starts.size) + masks.repeat(filled)
    repeats = np.empty(2 * starts.size + filled.size, dtype=np.int64)
    repeats[places], repeats[places + 1] = gaps, lengths
    repeats[2 * ends + masks] = (right - left) * tall - starts[ends - 1] - lengths[ends - 1]
    values = np.arange(2 * int(counts.max()) + 1, dtype=np.uint8) & np.uint8(1)
    boxes = zip(left.tolist(), top.tolist(), tall.tolist(), (2 * begins + masks).tolist(), strict=True)
    for count in counts.tolist():
        if not count:
            yield EMPTY
            continue
        x, y, rows, begin = next(boxes)
        size = 2 * count + 1
        yield Crop(values[:size].repeat(repeats[begin : begin + size]).reshape(-1, rows), x, y)
