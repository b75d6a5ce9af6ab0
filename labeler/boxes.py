"""Boxes: float32 (n, 4) ``xyxy`` in pixels, origin top-left; ``x2 - x1`` is the width. Plain NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]


def xyxy_to_xywh(boxes: Boxes) -> Boxes:
    """(n, 4) corners to (n, 4) ``x, y, width, height``, as COCO writes them."""
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def xywh_to_xyxy(boxes: Boxes) -> Boxes:
    """(n, 4) ``x, y, width, height`` to (n, 4) corners."""
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)


def clip_boxes(boxes_xyxy: Boxes, width: int, height: int) -> Boxes:
    """The part of each box inside a ``width`` x ``height`` image; a box outside becomes one without area."""
    return np.clip(boxes_xyxy, np.float32(0), np.array([width, height, width, height], dtype=np.float32))


def box_area(boxes_xyxy: Boxes) -> Floats:
    """(n,) square pixels; 0 for a box whose corners are the wrong way round."""
    sides: Floats = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    area: Floats = sides.prod(axis=1)
    return area


def box_iou(boxes_a: Boxes, boxes_b: Boxes) -> Floats:
    """Intersection over union of every pair, (n, m) in [0, 1]; 0 where both boxes have no area."""
    top_left = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    bottom_right = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    common = sides[..., 0] * sides[..., 1]
    union = box_area(boxes_a)[:, None] + box_area(boxes_b) - common
    iou: Floats = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return iou


def non_max_suppression(
    boxes_xyxy: Boxes, scores: Floats, class_ids: npt.NDArray[np.integer] | None, iou: float
) -> npt.NDArray[np.int64]:
    """Greedy suppression: a box falls to one with a better score that it overlaps by more than ``iou``.

    Args:
        boxes_xyxy: float32 (n, 4).
        scores: (n,); equal scores keep their order.
        class_ids: (n,), to suppress within a class only; None to suppress across all.
        iou: in [0, 1]; 1 keeps everything.

    Returns:
        Indices kept, best score first.
    """
    order = np.argsort(-scores, kind="stable")
    left = np.ones(len(order), dtype=bool)
    kept: list[int] = []
    for place, index in enumerate(order):
        if not left[place]:
            continue
        kept.append(int(index))
        rest = order[place + 1 :]
        falls = box_iou(boxes_xyxy[index : index + 1], boxes_xyxy[rest])[0] > iou
        if class_ids is not None:
            falls &= class_ids[rest] == class_ids[index]
        left[place + 1 :] &= ~falls
    return np.array(kept, dtype=np.int64)
