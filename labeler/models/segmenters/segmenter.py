"""The interface of segmenters: images and boxes in, one mask with scores per box out."""

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
        rle: the mask, at image size.
        area: its pixels.
        mask_score: the model's estimate of the mask's IoU; not clipped to [0, 1].
        stability: IoU of the masks at logit thresholds of +1 and -1, in [0, 1]. As ``calculate_stability_score`` of
            segment-anything (``utils/amg.py``) with its default offset, but at image size.
    """

    rle: Rle
    area: int
    mask_score: float
    stability: float


class Segmenter(Protocol):
    """Turns boxes into masks."""

    def segment(self, images: Sequence[Image], boxes_xyxy: Sequence[NDArray[np.float32]]) -> list[list[SegmentedMask]]:
        """Segment one object per box.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            boxes_xyxy: for each image float32 ``(n, 4)``, in pixels; ``n`` may be 0.

        Returns:
            For each image its masks, in the order of its boxes.
        """
        ...
