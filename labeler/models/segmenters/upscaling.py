"""Mask logits at image size, computed only where a mask can be.

Bilinear interpolation is local: a pixel is a mean of logits near it. So the pixels above a threshold lie where the
low-resolution logits around them exceed it. Each mask is upscaled in the window that holds all these pixels.

The interpolation is a matrix product per axis, whose weights are those of ``torch.nn.functional.interpolate``. Results
differ from its own only by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

PIXELS_PER_CHUNK = 16 * 2**20  # upscaled at a time; 64 MiB as float32
MOST_WASTE = 2  # windows of a chunk are enlarged to a common size, to this many times their own area at most
Steps = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Axis:
    """How one axis is upscaled.

    Attributes:
        weights: float32 ``(size, low)`` on the device of the logits.
        first, last: the outermost low-resolution positions with a weight, int ``(size,)`` each; both ascend.
    """

    weights: Tensor
    first: NDArray[np.int_]
    last: NDArray[np.int_]

    def window(self, active: NDArray[np.bool_]) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
        """Start and stop of the pixels that see active positions, ``(n, low)``; the first pixel if none does."""
        starts = np.searchsorted(self.last, active.argmax(1), "left")
        stops = np.searchsorted(self.first, active.shape[1] - 1 - active[:, ::-1].argmax(1), "right")
        some = active.any(1) & (starts < stops)  # not only in padding, which no pixel sees
        return np.where(some, starts, 0), np.where(some, stops, 1)


@lru_cache(maxsize=32)
def axis(low: int, steps: Steps, device: str) -> Axis:
    """The weights of bilinear interpolation.

    Args:
        low: length of the low-resolution axis.
        steps: (interpolated to, cropped to), one after another.
    """
    weights = torch.eye(low)[None]
    for scaled, kept in steps:
        weights = functional.interpolate(weights, scaled, mode="linear", align_corners=False)[..., :kept]
    seen = weights[0].numpy() != 0
    return Axis(
        weights[0].T.contiguous().to(device), seen.argmax(0), low - 1 - np.ascontiguousarray(seen[::-1]).argmax(0)
    )


@dataclass(frozen=True, eq=False)
class Upscaled:
    """The windows of some masks, all of the same size.

    Attributes:
        rows: which masks these are.
        tops, lefts: where the windows begin in the image, int ``(n,)`` each.
        values: float32 ``(n, height, width)``. Outside its window, a mask has no value above the threshold.
    """

    rows: NDArray[np.int_]
    tops: NDArray[np.int_]
    lefts: NDArray[np.int_]
    values: Tensor


def upscaled(values: Tensor, axes: Sequence[Axis], threshold: float) -> Iterator[Upscaled]:
    """Logits or probabilities at image size, in chunks of bounded size, the smallest windows first.

    Args:
        values: float32 ``(n, h, w)``.
        axes: how the height and the width are upscaled.
        threshold: values at or below it do not matter.
    """
    vertical, horizontal = axes
    above = values > threshold
    active = torch.cat([above.any(2), above.any(1)], 1).cpu().numpy()
    (tops, bottoms), (lefts, rights) = (
        vertical.window(active[:, : values.shape[1]]),
        horizontal.window(active[:, values.shape[1] :]),
    )
    order = np.argsort((bottoms - tops) * (rights - lefts), kind="stable")
    while order.size:
        count, height, width = _chunk(bottoms[order] - tops[order], rights[order] - lefts[order])
        rows, order = order[:count], order[count:]
        yield _window(values, rows, (vertical, tops, height), (horizontal, lefts, width))


def _chunk(heights: NDArray[np.int_], widths: NDArray[np.int_]) -> tuple[int, int, int]:
    """How many of the first windows make a chunk, and their common height and width."""
    high, wide = np.maximum.accumulate(heights), np.maximum.accumulate(widths)
    counts = np.arange(1, len(heights) + 1)
    fits = (counts * high * wide <= PIXELS_PER_CHUNK) & (high * wide <= MOST_WASTE * heights[0] * widths[0])
    count = max(1, int(np.argmin(fits)) if not fits.all() else len(fits))
    return count, int(high[count - 1]), int(wide[count - 1])


def _window(
    values: Tensor,
    rows: NDArray[np.int_],
    vertical: tuple[Axis, NDArray[np.int_], int],
    horizontal: tuple[Axis, NDArray[np.int_], int],
) -> Upscaled:
    tops, top_pixels, top_lows = _positions(rows, *vertical)
    lefts, left_pixels, left_lows = _positions(rows, *horizontal)
    device = values.device
    chosen = torch.from_numpy(rows).to(device)
    y, low_y = torch.from_numpy(top_pixels).to(device), torch.from_numpy(top_lows).to(device)
    x, low_x = torch.from_numpy(left_pixels).to(device), torch.from_numpy(left_lows).to(device)
    low = values[chosen[:, None, None], low_y[:, :, None], low_x[:, None, :]]
    down = vertical[0].weights[y[:, :, None], low_y[:, None, :]]
    across = horizontal[0].weights[x[:, None, :], low_x[:, :, None]]
    return Upscaled(rows, tops, lefts, down @ low @ across)


def _positions(
    rows: NDArray[np.int_], along: Axis, starts: NDArray[np.int_], length: int
) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]:
    """Where windows of ``length`` begin, their pixels, and the low-resolution positions that these see."""
    begin = np.minimum(starts[rows], len(along.first) - length)
    low_begin, low_end = along.first[begin], along.last[begin + length - 1] + 1
    low_length = int((low_end - low_begin).max())
    low_begin = np.minimum(low_begin, along.weights.shape[1] - low_length)
    return begin, begin[:, None] + np.arange(length), low_begin[:, None] + np.arange(low_length)
