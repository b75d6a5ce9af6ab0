"""What follows a mask decoder: the stability score, and masks as cleaned RLE."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labeler.geometry.masks import clean_mask, mask_to_rle, rle_area
from labeler.models.segmenters.segmenter import SegmentedMask

MAX_WAITING = 4  # chunks of dense masks that wait to be encoded, so that they do not pile up


def stability(logits: Tensor, offset: float = 1.0) -> Tensor:
    """The stability score of masks ``(n, H, W)``, ``(n,)``; see ``SegmentedMask``."""
    inner = (logits > offset).sum((-2, -1))
    outer = (logits > -offset).sum((-2, -1))
    return inner / outer.clamp(min=1)


def encode_masks(
    masks: NDArray[np.bool_], mask_scores: list[float], stabilities: list[float], clean_share: float
) -> list[SegmentedMask]:
    """Masks, bool ``(n, H, W)``, with their scores as cleaned RLE; see ``labeler.geometry.masks.clean_mask``."""
    encoded = []
    for mask, mask_score, stable in zip(masks, mask_scores, stabilities, strict=True):
        rle = mask_to_rle(clean_mask(mask, clean_share) if clean_share else mask)
        encoded.append(SegmentedMask(rle, rle_area(rle), mask_score, stable))
    return encoded


class MaskEncoder:
    """Encodes masks in a thread of its own, while the model works on. Several threads may submit at once."""

    def __init__(self, clean_share: float) -> None:
        self._clean_share = clean_share
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mask-encoder")
        self._room = BoundedSemaphore(MAX_WAITING)

    def submit(
        self, masks: NDArray[np.bool_], mask_scores: list[float], stabilities: list[float]
    ) -> Future[list[SegmentedMask]]:
        """As ``encode_masks``; waits while ``MAX_WAITING`` calls are not done."""
        self._room.acquire()
        future = self._thread.submit(encode_masks, masks, mask_scores, stabilities, self._clean_share)
        future.add_done_callback(lambda _: self._room.release())
        return future
