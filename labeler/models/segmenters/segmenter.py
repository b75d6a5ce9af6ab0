"""The interface of segmenters: images and boxes in, one mask per box out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.masks import Rle
from labeler.models.detectors.detector import Image


@dataclass(frozen=True)
class SegmentedMask:
    """The mask of one box.

    Attributes:
        rle: at image size.
        area: pixels.
        mask_score: the model's own estimate of the mask's IoU.
        stability: IoU of the masks cut one logit above and one below the threshold, at image size, as
            segment-anything's ``calculate_stability_score`` with its default offset.
    """

    rle: Rle
    area: int
    mask_score: float
    stability: float


class Segmenter(Protocol):
    def segment(self, images: Sequence[Image], boxes_xyxy: Sequence[NDArray[np.float32]]) -> list[list[SegmentedMask]]:
        """One mask for each box of each image.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            boxes_xyxy: for each image float32 ``(n, 4)`` in its pixels; ``n`` may be 0.
        """
        ...
