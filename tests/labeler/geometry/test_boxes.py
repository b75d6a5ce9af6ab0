from __future__ import annotations

import numpy as np
import torch
from torchvision import ops

from labeler.geometry.boxes import box_area, box_iou


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = rng.uniform(0, 100, (count, 2, 2))
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1).astype(np.float32)


def test_iou_and_area_equal_torchvision() -> None:
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 40), random_boxes(rng, 30)
    np.testing.assert_allclose(box_iou(a, b), ops.box_iou(torch.tensor(a), torch.tensor(b)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(box_area(a), ops.box_area(torch.tensor(a)), rtol=1e-6)
    assert box_iou(a, b).dtype == np.float32
    assert box_iou(a[:0], b).shape == (0, 30)


def test_boxes_without_area() -> None:
    boxes = np.array([[5, 5, 5, 9], [9, 9, 5, 5], [0, 0, 10, 10]], dtype=np.float32)
    np.testing.assert_array_equal(box_area(boxes), [0, 0, 100])
    np.testing.assert_array_equal(box_iou(boxes, boxes), np.diag([0, 0, 1]))
