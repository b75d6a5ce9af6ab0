"""Runs of many masks at once, from their compressed RLE counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labeler.sizes import MAX_PIXELS

Ints = npt.NDArray[np.int64]


class RunLengths(NamedTuple):
    """The runs of n masks, in pairs of background and foreground, column by column of the mask.

    Attributes:
        pairs: int64 ``(rows, 2)``; with an odd number of runs, a mask's last foreground has no pixel.
        begins: int64 ``(n,)``, the first row of each mask.
    """

    pairs: Ints
    begins: Ints

    def pixels(self) -> Ints:
        """Width x height of each mask, int64 ``(n,)``."""
        sums: Ints = np.add.reduceat(self.pairs.ravel(), 2 * self.begins)
        return sums


def run_lengths(counts: Sequence[bytes]) -> RunLengths:
    """Decode the counts of masks, at least one; see ``labeler.geometry.masks.rle_runs`` for the encoding.

    Raises:
        ValueError: counts are damaged, or a run is longer than any image.
    """
    codes = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(48)
    ends = np.array([len(each) for each in counts]).cumsum()
    if not all(counts) or codes.max() > 63:  # characters below 48 have wrapped around
        raise ValueError("RLE counts are not a complete COCO string")
    last = (codes < 32).nonzero()[0]  # the last character of each run
    if (codes[ends - 1] >= 32).any():  # the mask ends within a run
        raise ValueError("RLE counts are not a complete COCO string")
    digits = _differences(last, before=-1)
    most = int(digits.max())
    if most > 8:
        raise ValueError("RLE counts contain a run longer than any image")
    values = ((codes[last] & 31).astype(np.int64) ^ 16) - 16  # the sign is in the last character
    longer = (digits > 1).nonzero()[0]
    for digit in range(1, most):
        longer = longer[digits[longer] > digit]
        values[longer] = (values[longer] << 5) + (codes[last[longer] - digit] & 31)

    # The runs are laid out in rows of two, and each mask begins a new row. From the fourth run of a mask on, the stored
    # value is the difference to the run above it, so runs are cumulative sums of columns.
    run_ends = last.searchsorted(ends)
    run_counts = _differences(run_ends)
    row_counts = (run_counts + 1) // 2
    rows = row_counts.cumsum()
    begins = rows - row_counts
    runs = np.zeros((int(rows[-1]), 2), dtype=np.int64)
    runs.reshape(-1)[np.arange(last.size) + (2 * begins - (run_ends - run_counts)).repeat(run_counts)] = values
    firsts = runs[begins, 0]
    runs[begins, 0] = 0  # the third run is stored as it is, not as a difference
    sums = runs.cumsum(axis=0)
    if len(begins) > 1:
        sums[begins[1] :] -= sums[begins[1:] - 1].repeat(row_counts[1:], axis=0)
    sums[begins, 0] = firsts
    sums[rows[run_counts % 2 == 1] - 1, 1] = 0  # with an odd number of runs, the last row has only one
    # Differences are below 2**40, so before a sum overflows it exceeds the longest possible run.
    if sums.min() < 0 or sums.max() > MAX_PIXELS:
        raise ValueError("RLE counts contain a run longer than any image")
    return RunLengths(sums, begins)


def _differences(values: Ints, before: int = 0) -> Ints:
    """The difference of each value to the one before it; ``np.diff`` with ``prepend`` is ten times as slow."""
    differences = values.copy()
    differences[0] -= before
    differences[1:] -= values[:-1]
    return differences
