"""Boxes as float32 arrays ``(n, 4)``: ``xyxy`` in pixels, with the origin at the top left; the width is ``x2 - x1``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]


def box_area(boxes_xyxy: Boxes) -> Floats:
    """Area in square pixels, float32 ``(n,)``; 0 for boxes with ``x2 < x1`` or ``y2 < y1``."""
    sides: Floats = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    area: Floats = sides.prod(axis=1)
    return area


def box_iou(boxes_a: Boxes, boxes_b: Boxes) -> Floats:
    """Intersection over union of each pair of boxes, float32 ``(n, m)`` in [0, 1]; 0 if both have no area."""
    top_left = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    common = sides[..., 0] * sides[..., 1]
    union = box_area(boxes_a)[:, None] + box_area(boxes_b) - common
    iou: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou


def overlapping_pairs(
    boxes_xyxy: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Which of the boxes, float64 ``(n, 4)``, overlap each other.

    Returns:
        Two indices of each pair, in either order, and the area that its boxes share, ``(m,)`` each.
    """
    x1, y1, x2, y2 = boxes_xyxy.T
    overlap = (x1[:, None] < x2) & (x1 < x2[:, None]) & (y1[:, None] < y2) & (y1 < y2[:, None])
    one, other = np.nonzero(overlap)
    widths = np.minimum(x2[one], x2[other]) - np.maximum(x1[one], x1[other])
    heights = np.minimum(y2[one], y2[other]) - np.maximum(y1[one], y1[other])
    return one, other, widths * heights


def shared_areas(boxes_xyxy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The area that each pair of boxes shares: float64 ``(n, 4)`` to ``(n, n)``."""
    one, other, areas = overlapping_pairs(boxes_xyxy)
    shared = np.zeros((len(boxes_xyxy), len(boxes_xyxy)))
    shared[one, other] = areas
    return shared
