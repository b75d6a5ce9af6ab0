"""The candidates of a record, with what the gate's filters need of their masks, computed once."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import overlapping_pairs, shared_areas
from labeler.geometry.masks import mask_areas, mask_boxes
from labeler.records import ImageRecord


class Candidates:
    """The instances of a record, with what several filters need of their masks.

    Attributes:
        boxes: tight boxes of the masks along pixel edges, xyxy float64 ``(n, 4)``.
        areas: in pixels, int64 ``(n,)``.
    """

    def __init__(self, record: ImageRecord) -> None:
        self.record = record
        self.instances = record.instances

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        return mask_boxes([item.rle for item in self.instances])

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        return mask_areas([item.rle for item in self.instances])

    @cached_property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """The ``overlapping_pairs`` of ``boxes``."""
        return overlapping_pairs(self.boxes)

    @cached_property
    def shared(self) -> NDArray[np.float64]:
        """Areas that each pair of ``boxes`` shares, float64 ``(n, n)``."""
        return shared_areas(self.boxes)

    @cached_property
    def box_ious(self) -> NDArray[np.float64]:
        """IoU of each detector's box and the tight box of its mask, float64 ``(n,)``."""
        given = np.array([item.box_xyxy for item in self.instances], np.float64).reshape(-1, 4)
        sides = np.minimum(given[:, 2:], self.boxes[:, 2:]) - np.maximum(given[:, :2], self.boxes[:, :2])
        shared = sides.clip(min=0).prod(axis=1)
        union = (given[:, 2:] - given[:, :2]).clip(min=0).prod(axis=1)
        union += (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        union -= shared
        ious: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union != 0)
        return ious
