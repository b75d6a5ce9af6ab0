"""What follows a mask decoder: the stability score, and masks as cleaned RLE.

On a GPU, the runs of masks are found on the device, so that only they travel to the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from labeler.geometry.masks import clean_mask, rle_area, window_to_rle
from labeler.models.segmenters.segmenter import SegmentedMask

THREADS = 4
WAITING_BYTES = 256 * 2**20  # of masks that wait to be encoded


@dataclass(frozen=True, eq=False)
class MaskWindow:
    """A part of an image that holds a mask, as runs.

    Attributes:
        top, left: where it begins in the image.
        height, width: of the window.
        changes: where the mask begins and ends, int ``(k,)``, column by column, each column with a background pixel
            above it.
    """

    top: int
    left: int
    height: int
    width: int
    changes: NDArray[np.int_]

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """bool ``(height, width)``."""
        ends = np.append(self.changes, self.width * (self.height + 1))
        values = np.arange(ends.size, dtype=np.uint8) & 1
        columns = np.repeat(values, np.diff(ends, prepend=0)).view(np.bool_)
        return columns.reshape(self.width, self.height + 1)[:, 1:].T


@dataclass(frozen=True, eq=False)
class MaskChunk:
    """Some masks of one image.

    Attributes:
        rows: their places among the masks of the image.
        image_size: (height, width); what windows have beyond it is dropped.
    """

    rows: Sequence[int]
    windows: Sequence[MaskWindow]
    mask_scores: Sequence[float]
    stabilities: Sequence[float]
    image_size: tuple[int, int]

    def stable(self, least: float) -> MaskChunk:
        """The masks whose stability exceeds ``least``; 0 keeps all."""
        kept = [index for index, each in enumerate(self.stabilities) if each > least or least == 0]
        return MaskChunk(
            [self.rows[index] for index in kept],
            [self.windows[index] for index in kept],
            [self.mask_scores[index] for index in kept],
            [self.stabilities[index] for index in kept],
            self.image_size,
        )

    @property
    def bytes(self) -> int:
        return sum(window.changes.nbytes for window in self.windows)


def stability(values: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """The stability score of masks ``(n, H, W)``, ``(n,)``; see ``SegmentedMask``."""
    inner = (values > high).sum((-2, -1))
    outer = (values > low).sum((-2, -1))
    return inner / outer.clamp(min=1)


def windows(masks: Tensor, tops: NDArray[np.int_], lefts: NDArray[np.int_]) -> list[MaskWindow]:
    """The runs of masks, bool ``(n, height, width)``, in windows that begin at ``tops`` and ``lefts``."""
    count, height, width = masks.shape
    columns = functional.pad(masks.transpose(1, 2), (1, 0)).flatten(1)
    columns = functional.pad(columns, (0, 1))
    changed = (columns[:, 1:] != columns[:, :-1]).nonzero().to(torch.int32).cpu().numpy()
    bounds = np.searchsorted(changed[:, 0], np.arange(1, count))
    return [
        MaskWindow(int(top), int(left), height, width, own + 1)
        for top, left, own in zip(tops, lefts, np.split(changed[:, 1], bounds), strict=True)
    ]


def encode(chunk: MaskChunk, clean_share: float) -> list[SegmentedMask]:
    """Masks as cleaned RLE; see ``labeler.geometry.masks.clean_mask``."""
    height, width = chunk.image_size
    encoded = []
    for window, mask_score, stable in zip(chunk.windows, chunk.mask_scores, chunk.stabilities, strict=True):
        mask = np.ascontiguousarray(window.pixels[: height - window.top, : width - window.left])
        rle = window_to_rle(clean_mask(mask, clean_share), window.left, window.top, width, height)
        encoded.append(SegmentedMask(rle, rle_area(rle), mask_score, stable))
    return encoded


class PendingMasks:
    """The masks of one image, which become RLE in other threads."""

    def __init__(self, encoder: MaskEncoder) -> None:
        self._encoder = encoder
        self._chunks: list[tuple[Sequence[int], Future[list[SegmentedMask]]]] = []

    def add(self, chunk: MaskChunk) -> None:
        """See ``MaskEncoder.submit``."""
        self._chunks.append((chunk.rows, self._encoder.submit(chunk)))

    def result(self) -> list[SegmentedMask]:
        """The masks in the order of their rows."""
        masks = {row: mask for rows, future in self._chunks for row, mask in zip(rows, future.result(), strict=True)}
        return [masks[row] for row in sorted(masks)]


class MaskEncoder:
    """Encodes masks in threads of its own, while the model works on. Several threads may submit at once."""

    def __init__(self, clean_share: float) -> None:
        self._clean_share = clean_share
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mask-encoder")
        self._waiting = 0
        self._changed = Condition()

    def submit(self, chunk: MaskChunk) -> Future[list[SegmentedMask]]:
        """As ``encode``; waits while masks of more than ``WAITING_BYTES`` are not done."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting <= WAITING_BYTES)
            self._waiting += chunk.bytes
        future = self._threads.submit(encode, chunk, self._clean_share)
        future.add_done_callback(lambda _: self._done(chunk.bytes))
        return future

    def _done(self, count: int) -> None:
        with self._changed:
            self._waiting -= count
            self._changed.notify_all()
