"""Overlaps of the candidates of one image with its objects, computed once for all measures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from labeler.geometry.boxes import box_iou
from labeler.geometry.masks import mask_areas, rle_box_xyxy
from labeler.ground_truth import GroundTruthInstance, match_overlaps
from labeler.records import Instance

Floats = NDArray[np.float64]


class ImageOverlaps:
    """IoUs of n candidates with m objects, float64 ``(n, m)``; 0 where their classes differ.

    For a crowd, the share of the candidate's area that lies in it takes the place of the IoU, as in pycocotools.

    Attributes:
        crowd, box_only: bool ``(m,)``.
        areas: in pixels, of the candidates' masks, int64 ``(n,)``.
        object_areas: in pixels, as stated or of the mask, float64 ``(m,)``.
    """

    def __init__(self, candidates: Sequence[Instance], objects: Sequence[GroundTruthInstance]) -> None:
        self._candidates, self._objects = candidates, objects
        self.classes = np.array([each.class_id for each in candidates], np.int64)
        self.object_classes = np.array([each.class_id for each in objects], np.int64)
        self.crowd = np.array([each.crowd for each in objects], np.bool_)
        self.box_only = np.array([each.box_only for each in objects], np.bool_)
        self._same_class = self.classes[:, None] == self.object_classes

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        return mask_areas([each.rle for each in self._candidates])

    @cached_property
    def object_areas(self) -> Floats:
        areas = np.array([-1 if each.area is None else each.area for each in self._objects], np.float64)
        unknown = [index for index, each in enumerate(self._objects) if each.area is None]
        areas[unknown] = mask_areas([self._objects[index].rle for index in unknown])
        return areas

    @cached_property
    def masks(self) -> Floats:
        """Of the masks; an object of which only the box is known has that of its box."""
        ious = np.zeros(self._same_class.shape)
        # One class after the other: masks of different classes that overlap need not be compared.
        for class_id in set(self.classes.tolist()).intersection(self.object_classes.tolist()):
            rows = (self.classes == class_id).nonzero()[0]
            columns = (self.object_classes == class_id).nonzero()[0]
            found = [self._candidates[row].rle for row in rows.tolist()]
            true = [self._objects[column].rle for column in columns.tolist()]
            ious[rows[:, None], columns] = coco_mask.iou(found, true, self.crowd[columns].astype(np.uint8))
        return ious

    @cached_property
    def boxes(self) -> NDArray[np.float64]:
        """The detector's boxes, xywh in pixels, float64 ``(n, 4)``."""
        return _xywh([each.box_xyxy for each in self._candidates])

    @cached_property
    def of_boxes(self) -> Floats:
        """Of the detector's boxes and those of the objects."""
        if not self._same_class.any():
            return np.zeros(self._same_class.shape)
        true = _xywh([each.box for each in self._objects])
        ious: Floats = coco_mask.iou(self.boxes, true, self.crowd.astype(np.uint8))
        return np.where(self._same_class, ious, 0.0)

    @cached_property
    def for_matching(self) -> Floats:
        """What ``match_iou`` gives: of masks, or of tight boxes where only the box of an object is known."""
        if not self.box_only.any():
            return self.masks
        ious = self.masks.copy()
        columns = self.box_only.nonzero()[0]
        tight = np.array([rle_box_xyxy(each.rle) for each in self._candidates], np.float32).reshape(-1, 4)
        true = np.array([self._objects[column].box for column in columns.tolist()], np.float32)
        ious[:, columns] = np.where(self._same_class[:, columns], box_iou(tight, true), 0.0)
        return ious

    def match(self, ranked: Sequence[int], iou: float) -> NDArray[np.int64]:
        """``match_masks`` of the candidates ``ranked``, for all classes at once."""
        rows = np.array(ranked, np.int64)
        return match_overlaps(self.for_matching[rows], self.masks[rows][:, self.crowd], self.crowd, iou)


def _xywh(boxes_xyxy: Sequence[tuple[float, float, float, float]]) -> NDArray[np.float64]:
    boxes = np.array(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
