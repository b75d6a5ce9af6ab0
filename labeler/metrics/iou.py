"""Variants of mask IoU: of boundaries, tolerant of careless edges, and of pixels that objects share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from labeler.geometry.crops import Crop, tight_crops
from labeler.geometry.masks import Rle, mask_iou, mask_union, rle_area, rle_box_xyxy, rle_crop
from labeler.ground_truth import GroundTruthInstance
from labeler.opencv import opencv


def boundary_iou(predicted: Rle, true: Rle, dilation_ratio: float = 0.02) -> float:
    """IoU of the inner boundaries of two masks of the same size, in [0, 1]; 0 if both masks are empty.

    The boundary of a mask is its pixels within ``d`` pixels of its contour, counted along rows and columns. ``d`` is
    ``dilation_ratio`` times the image diagonal, rounded, and at least 1. Where a mask touches the image border, the
    border is part of its contour.

    Source: Cheng et al. 2021, arXiv 2103.16562; ``mask_to_boundary`` in github.com/bowenc0221/boundary-iou-api.
    """
    return boundary_ious([(predicted, true)], dilation_ratio)[0]


def boundary_ious(pairs: Sequence[tuple[Rle, Rle]], dilation_ratio: float = 0.02) -> list[float]:
    """``boundary_iou`` of pairs of masks of one size, much faster than one by one."""
    if not pairs:
        return []
    height, width = pairs[0][0]["size"]
    distance = max(1, round(dilation_ratio * float(np.hypot(height, width))))
    boundaries = (_inner_boundary(crop, distance) for crop in tight_crops([rle for pair in pairs for rle in pair]))
    return [_crop_iou(predicted, true) for predicted, true in zip(boundaries, boundaries, strict=True)]


def _inner_boundary(crop: Crop, distance: int) -> Crop:
    """The boundary of a mask inside its box; outside lies background, or nothing, where the box ends with the image."""
    pixels = crop.columns
    if not pixels.size:
        return crop
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    eroded = opencv().erode(pixels, kernel, borderType=opencv().BORDER_CONSTANT, borderValue=0)
    return Crop(pixels ^ eroded, crop.x, crop.y)


def _crop_iou(one: Crop, other: Crop) -> float:
    width, height = one.columns.shape
    other_width, other_height = other.columns.shape
    x1, y1 = max(one.x, other.x), max(one.y, other.y)
    x2, y2 = min(one.x + width, other.x + other_width), min(one.y + height, other.y + other_height)
    shared: Any = 0
    if x1 < x2 and y1 < y2:
        first, second = (each.columns[x1 - each.x : x2 - each.x, y1 - each.y : y2 - each.y] for each in (one, other))
        shared = np.count_nonzero(first & second)
    union = np.count_nonzero(one.columns) + np.count_nonzero(other.columns) - shared
    return float(shared / union) if union else 0.0


def tolerant_iou(predicted: Rle, true: Rle, band_width: int, band_weight: float) -> float:
    """IoU that gives less weight to a band along the true contour, for ground truth with careless edges; in [0, 1].

    The band consists of the true mask's pixels that have background within ``band_width`` pixels, counted along rows
    and columns, and of the background pixels that have the mask as near. The image border is not a contour. Pixels in
    the band count ``band_weight`` instead of 1, in intersection and union alike. If only the band would count, the
    result is the plain IoU.

    Args:
        predicted, true: masks of the same size.
        band_width: pixels on each side of the contour, 0 or more.
        band_weight: in [0, 1]; 1 gives the plain IoU, 0 ignores the band.
    """
    height, width = true["size"]
    band_width = min(band_width, max(height, width))
    x1, y1, x2, y2 = _joint_box(predicted, true)
    x1, y1 = max(0, x1 - band_width), max(0, y1 - band_width)
    x2, y2 = min(width, x2 + band_width), min(height, y2 + band_width)
    predicted_mask, true_mask = (rle_crop(rle, x1, y1, x2, y2) for rle in (predicted, true))
    intersection, union = predicted_mask & true_mask, predicted_mask | true_mask
    cv2, kernel = opencv(), np.ones((2 * band_width + 1, 2 * band_width + 1), dtype=np.uint8)
    pixels = true_mask.view(np.uint8)
    # By default, OpenCV ignores what lies outside the array, so the image border gives no contour.
    band = (cv2.dilate(pixels, kernel) != cv2.erode(pixels, kernel)) if pixels.size else true_mask
    shared, whole = (
        np.count_nonzero(mask & ~band) + band_weight * np.count_nonzero(mask & band) for mask in (intersection, union)
    )
    if whole:
        return float(shared / whole)
    return float(mask_iou([predicted], [true])[0, 0])


def semantic_overlap(predicted: Sequence[Rle], true: Sequence[GroundTruthInstance]) -> tuple[int, int]:
    """Pixels in the intersection and in the union of all predicted and all true masks of one image and class.

    The class's semantic IoU is the sum of intersections over all images, divided by the sum of unions; the mean over
    classes is the mIoU (Everingham et al. 2010, but without a background class). Masks of different classes may share
    pixels. Pixels in crowds are not counted, nor is an image in which an object of the class has no mask.
    """
    if any(each.box_only for each in true):
        return 0, 0
    crowd = [each.rle for each in true if each.crowd]
    predicted, objects = list(predicted), [each.rle for each in true if not each.crowd]
    area_predicted, area_true = _union_area(predicted, crowd), _union_area(objects, crowd)
    if not predicted or not objects:
        return 0, area_predicted + area_true
    common = coco_mask.merge([_union(predicted), _union(objects)], intersect=True)
    intersection = _union_area([common], crowd)
    return intersection, area_predicted + area_true - intersection


def _joint_box(one: Rle, other: Rle) -> tuple[int, int, int, int]:
    """The tight xyxy box around both masks, along pixel edges."""
    boxes = [rle_box_xyxy(rle) for rle in (one, other) if rle_area(rle)]
    if not boxes:
        return 0, 0, 0, 0
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return int(min(x1)), int(min(y1)), int(max(x2)), int(max(y2))


def _union_area(rles: Sequence[Rle], without: Sequence[Rle]) -> int:
    """The number of pixels in any of ``rles`` and in none of ``without``."""
    if not rles:
        return 0
    union = _union(rles)
    if not without:
        return rle_area(union)
    return rle_area(union) - rle_area(coco_mask.merge([union, _union(without)], intersect=True))


def _union(rles: Sequence[Rle]) -> Rle:
    return rles[0] if len(rles) == 1 else mask_union(rles)
