from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labeler.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.records import Instance
from workflows.evaluate import mask_ap, precision_recall


def strip(left: int, width: int = 10) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((20, 100), dtype=bool)
    mask[:, left : left + width] = True
    return mask


def instance(left: int, score: float, width: int = 10) -> Instance:
    rle = mask_to_rle(strip(left, width))
    return Instance(0, "thing", rle_box_xyxy(rle), score, 1.0, 1.0, rle_area(rle), rle)


def truth(*lefts: int) -> dict[str, Any]:
    annotations = []
    for index, left in enumerate(lefts):
        rle = mask_to_rle(strip(left))
        annotations.append(
            {"id": index + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": rle,
             "area": rle_area(rle), "bbox": [left, 0, 10, 20]}
        )  # fmt: skip
    return {
        "images": [{"id": 1, "width": 100, "height": 20, "file_name": "a"}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }


# found: (left, score), against objects at 0 and 50; a strip shifted by 2 of 10 has IoU 8/12.
@pytest.mark.parametrize(
    ("found", "ap50", "ap75", "precision", "recall"),
    [
        ([(0, 0.9), (50, 0.8)], 1.0, 1.0, 1.0, 1.0),
        ([(0, 0.9), (52, 0.8)], 1.0, 51 / 101, 1.0, 1.0),  # recall reaches 0.5 at IoU 0.75
        ([(0, 0.9), (30, 0.8)], 51 / 101, 51 / 101, 0.5, 0.5),
        ([(30, 0.9), (0, 0.8), (50, 0.7)], 2 / 3, 2 / 3, 2 / 3, 1.0),  # precision 1/2 then 2/3, interpolated
        ([(0, 0.9), (0, 0.8)], 51 / 101, 51 / 101, 0.5, 0.5),  # one object is found once
        ([], 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_hand_made_cases(
    found: list[tuple[int, float]], ap50: float, ap75: float, precision: float, recall: float
) -> None:
    instances = [(1, 1, instance(left, score)) for left, score in found]
    metrics = mask_ap(truth(0, 50), instances)
    assert metrics.ap50 == pytest.approx(ap50, abs=1e-6)
    assert metrics.ap75 == pytest.approx(ap75, abs=1e-6)
    assert precision_recall(truth(0, 50), instances) == pytest.approx((precision, recall))


def test_ap_averages_ten_thresholds() -> None:
    # IoU 8/12 passes 0.50, 0.55, 0.60 and 0.65
    assert mask_ap(truth(0), [(1, 1, instance(2, 0.9))]).ap == pytest.approx(0.4)
