from __future__ import annotations

import numpy as np
import torch
from torchvision import ops

from labeler.boxes import box_area, box_iou, clip_boxes, non_max_suppression, xywh_to_xyxy, xyxy_to_xywh


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


def test_xywh_round_trip() -> None:
    boxes = np.array([[1, 2, 4, 8]], dtype=np.float32)
    np.testing.assert_array_equal(xyxy_to_xywh(boxes), [[1, 2, 3, 6]])
    np.testing.assert_array_equal(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    assert xywh_to_xyxy(boxes).dtype == xyxy_to_xywh(boxes).dtype == np.float32


def test_clip() -> None:
    boxes = np.array([[-3, 5, 40, 50], [30, 30, 40, 40]], dtype=np.float32)
    clipped = clip_boxes(boxes, width=20, height=25)
    np.testing.assert_array_equal(clipped, [[0, 5, 20, 25], [20, 25, 20, 25]])
    assert clipped.dtype == np.float32


def test_suppression_equals_torchvision() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        boxes, scores = random_boxes(rng, 60), rng.random(60).astype(np.float32)
        classes = rng.integers(0, 3, 60)
        tensors = torch.tensor(boxes), torch.tensor(scores)
        assert non_max_suppression(boxes, scores, None, 0.3).tolist() == ops.nms(*tensors, 0.3).tolist()
        expected = ops.batched_nms(*tensors, torch.tensor(classes), 0.3).tolist()
        assert non_max_suppression(boxes, scores, classes, 0.3).tolist() == expected


def test_suppression_edges() -> None:
    box = np.array([[0, 0, 5, 5]], dtype=np.float32)
    equal = np.full(3, 0.5, dtype=np.float32)
    assert non_max_suppression(np.repeat(box, 3, axis=0), equal, None, 0.5).tolist() == [0]
    assert non_max_suppression(np.repeat(box, 3, axis=0), equal, None, 1.0).tolist() == [0, 1, 2]
    empty = non_max_suppression(box[:0], equal[:0], None, 0.5)
    assert empty.shape == (0,)
    assert empty.dtype == np.int64
