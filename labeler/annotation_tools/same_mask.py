"""Whether a mask came back from an annotation tool as it was sent."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeler.geometry.masks import Rle, mask_iou, rle_box_xyxy, rle_to_mask
from labeler.opencv import opencv

SAME_MASK_IOU = 0.98  # from which a mask counts as unchanged
OUTLINE_PIXELS = 3.0  # how far a tool's polygon may run from the mask it was made of; FiftyOne allows itself 2


def is_same_mask(sent: Rle, corrected: Rle, outlined: bool = False) -> bool:
    """Whether a mask came back as it was sent, apart from what the tool's own conversions do to it.

    Args:
        outlined: it came back as polygons, so it may differ along the contour, and holes do not count.
    """
    if mask_iou([sent], [corrected])[0, 0] >= SAME_MASK_IOU:
        return True
    if not outlined:
        return False
    boxes = np.array([rle_box_xyxy(sent), rle_box_xyxy(corrected)]).astype(int)
    (x1, y1), (x2, y2) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    # A border of one pixel: polygons treat what is outside of the image as background.
    before, after = (filled(np.pad(rle_to_mask(rle)[y1:y2, x1:x2], 1)) for rle in (sent, corrected))
    inside, outside = _depth(before), _depth(1 - before)
    return bool(np.where(before != after, inside + outside, 0).max() <= OUTLINE_PIXELS)


def filled(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The mask with its holes filled, uint8 (H, W)."""
    cv2 = opencv()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, cv2.FILLED))


def _depth(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Distance of each pixel of the mask to the background, in pixels; 0 outside."""
    cv2 = opencv()
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
