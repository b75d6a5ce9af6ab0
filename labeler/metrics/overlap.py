"""What is measured on one pair of masks, on one class of an image, or on one image; COCO's figures are in
``labeler.metrics.coco``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from labeler.geometry.masks import Rle, mask_iou, rle_area, rle_box_xyxy, rle_crop
from labeler.ground_truth import GroundTruthInstance
from labeler.opencv import opencv
from labeler.records import Instance

Mask = NDArray[np.bool_]
Rule = Literal["mask score", "joint score", "both agree"]
RULES: tuple[Rule, ...] = ("mask score", "joint score", "both agree")


def boundary_iou(found: Rle, true: Rle, dilation_ratio: float = 0.02) -> float:
    """IoU of the two masks' inner boundaries (Cheng et al. 2021, arXiv 2103.16562), 0 if both are empty.

    A mask's boundary is what of it lies within ``d`` pixels of its contour, in rows and columns; ``d`` is
    ``dilation_ratio`` of the image's diagonal, rounded, 1 or more. The image's border is contour too, as in the
    authors' code (``mask_to_boundary`` of boundary-iou-api).
    """
    height, width = true["size"]
    distance = max(1, round(dilation_ratio * float(np.hypot(height, width))))
    box = _joint_box(found, true)
    # Zeros around: nothing of the masks is outside of the box, so its rim is as the image's.
    one, other = (_inner_boundary(np.pad(rle_crop(rle, *box), 1), distance) for rle in (found, true))
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def tolerant_iou(found: Rle, true: Rle, band_width: int, band_weight: float) -> float:
    """IoU in which a band around the true contour counts less, for truth whose edges are drawn carelessly.

    The band holds the pixels of the true object that have background within ``band_width`` pixels in rows and columns,
    and those of the background that have the object so near: ``band_width`` pixels on each side. The image's border is
    no contour. A pixel of the band counts ``band_weight`` instead of 1, in the intersection and in the union alike: 1
    is plain IoU, 0 takes the band out. Where nothing else would count, it is plain IoU.

    Args:
        band_width: pixels, 0 or more.
        band_weight: in [0, 1].
    """
    height, width = true["size"]
    band_width = min(band_width, max(height, width))
    x1, y1, x2, y2 = _joint_box(found, true)
    x1, y1 = max(0, x1 - band_width), max(0, y1 - band_width)
    x2, y2 = min(width, x2 + band_width), min(height, y2 + band_width)
    found_mask, true_mask = (rle_crop(rle, x1, y1, x2, y2) for rle in (found, true))
    intersection, union = found_mask & true_mask, found_mask | true_mask
    cv2, kernel = opencv(), np.ones((2 * band_width + 1, 2 * band_width + 1), dtype=np.uint8)
    pixels = true_mask.view(np.uint8)
    # OpenCV takes no part of what is outside for either, so where the crop ends with the image there is no contour.
    band = (cv2.dilate(pixels, kernel) != cv2.erode(pixels, kernel)) if pixels.size else true_mask
    shared, whole = (
        np.count_nonzero(mask & ~band) + band_weight * np.count_nonzero(mask & band) for mask in (intersection, union)
    )
    if whole:
        return float(shared / whole)
    return float(mask_iou([found], [true])[0, 0])


def semantic_overlap(found: Sequence[Rle], true: Sequence[GroundTruthInstance]) -> tuple[int, int]:
    """Pixels in the intersection and in the union of what two sets of masks cover, all of one image and class.

    Summed over images, their quotient is the class's IoU, and the mean of that over classes the mIoU (Everingham et
    al. 2010, without a class for the background). Masks of different classes may share pixels. Crowds are left out.
    """
    crowd = [each.rle for each in true if each.crowd]
    covered, wanted = list(found), [each.rle for each in true if not each.crowd]
    in_found, in_true = _area(covered, crowd), _area(wanted, crowd)
    both = 0
    if covered and wanted:
        both = _area([coco_mask.merge([coco_mask.merge(covered), coco_mask.merge(wanted)], intersect=True)], crowd)
    return both, in_found + in_true - both


def pick(candidates: Sequence[Instance], rule: Rule) -> Instance | None:
    """The one mask to take for an image that shows one object, of all its candidates for the class.

    - ``mask score``: the greatest mask score.
    - ``joint score``: the greatest product of detector score and mask score.
    - ``both agree``: the greatest detector score, if no other candidate has a greater mask score; else None. To fall
      back to the joint score then would be the rule ``joint score``, since what is best by both is best by their
      product; so this rule stands for itself, and says how far agreement is to be trusted, and how often there is any.

    The earlier of two equals is taken.
    """
    if not candidates:
        return None
    if rule == "mask score":
        return max(candidates, key=lambda each: each.mask_score)
    if rule == "joint score":
        return max(candidates, key=lambda each: each.joint_score)
    best = max(candidates, key=lambda each: (each.score, each.mask_score))
    return best if best.mask_score == max(each.mask_score for each in candidates) else None


def _joint_box(found: Rle, true: Rle) -> tuple[int, int, int, int]:
    """The tight box of both masks along pixel edges."""
    boxes = [rle_box_xyxy(rle) for rle in (found, true) if rle_area(rle)]
    if not boxes:
        return 0, 0, 0, 0
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return int(min(x1)), int(min(y1)), int(max(x2)), int(max(y2))


def _inner_boundary(mask: Mask, distance: int) -> Mask:
    cv2, kernel = opencv(), np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    eroded = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(mask & (eroded == 0))


def _area(rles: Sequence[Rle], without: Sequence[Rle]) -> int:
    """Pixels of the union of ``rles`` that are in none of ``without``."""
    if not rles:
        return 0
    union = coco_mask.merge(list(rles))
    if not without:
        return rle_area(union)
    return rle_area(union) - rle_area(coco_mask.merge([union, coco_mask.merge(list(without))], intersect=True))
