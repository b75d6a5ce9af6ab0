"""Seeded ground truth and candidates, with several classes and sizes, crowds, equal scores and a crowded image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labeler.geometry.masks import Rle, mask_to_rle, rle_area, rle_box_xyxy
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.records import Instance

WIDTH, HEIGHT, CLASSES = 320, 240, 4
Found = list[list[Instance]]  # by image


def made_up(count: int = 40, seed: int = 0, crowds: bool = True) -> tuple[list[GroundTruthImage], Found]:
    rng = np.random.default_rng(seed)
    images: list[GroundTruthImage] = []
    found: Found = []
    for index in range(count):
        true: list[GroundTruthInstance] = []
        candidates: list[Instance] = []
        for _ in range(rng.integers(0, 7)):
            class_id = int(rng.integers(CLASSES - 1))  # the last class has no objects
            centre, radii = rng.integers((0, 0), (WIDTH, HEIGHT)), rng.integers(4, 90, size=2)
            rle = ellipse(centre, radii)
            stated = float(rle_area(rle) * rng.uniform(0.8, 1.2))  # as stated with a polygon; COCO's size ranges use it
            crowd = crowds and bool(rng.random() < 0.1)
            true.append(GroundTruthInstance(class_id, rle, crowd, None if rng.random() < 0.5 else _wider(rle), stated))
            for _ in range(rng.integers(0, 4)):
                moved = ellipse(centre + rng.normal(0, 4, 2), radii * rng.uniform(0.7, 1.3, 2))
                candidates.append(_instance(class_id if rng.random() < 0.8 else int(rng.integers(CLASSES)), moved, rng))
        for _ in range(120 if index == 3 else 1):
            candidates.append(_instance(0, ellipse(rng.integers((0, 0), (WIDTH, HEIGHT)), (6, 9)), rng))
        images.append(GroundTruthImage(f"{index}.jpg", WIDTH, HEIGHT, tuple(true)))
        found.append(candidates)
    return images, found


def ellipse(centre: Any, radii: Any) -> Rle:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    x, y = (int(value) for value in centre)
    cv2.ellipse(mask, (x, y), (max(1, int(radii[0])), max(1, int(radii[1]))), 0, 0, 360, 1, -1)
    mask[min(max(y, 0), HEIGHT - 1), min(max(x, 0), WIDTH - 1)] = 1
    return mask_to_rle(mask.astype(bool))


def _instance(class_id: int, rle: Rle, rng: np.random.Generator) -> Instance:
    score, mask_score = rng.integers(1, 40) / 40, float(rng.random())  # many detector scores are equal
    return Instance(class_id, "p", _wider(rle), float(score), mask_score, 1.0, rle_area(rle), rle)


def _wider(rle: Rle) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = rle_box_xyxy(rle)
    return x1 - 1.25, y1 - 0.5, x2 + 0.75, y2 + 1.5


def as_coco(images: Sequence[GroundTruthImage]) -> dict[str, Any]:
    """The ground truth as a COCO dictionary; ids count from 1."""
    annotations = []
    for image_id, image in enumerate(images, start=1):
        for each in image.instances:
            x1, y1, x2, y2 = each.box_xyxy or rle_box_xyxy(each.rle)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image_id, "category_id": each.class_id + 1,
                 "segmentation": each.rle, "area": each.area, "bbox": [x1, y1, x2 - x1, y2 - y1],
                 "iscrowd": int(each.crowd)}
            )  # fmt: skip
    return {
        "info": {},
        "images": [
            {"id": number, "file_name": image.name, "width": image.width, "height": image.height}
            for number, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": class_id + 1, "name": f"class {class_id}"} for class_id in range(CLASSES)],
    }


def as_results(found: Found, kind: Literal["segm", "bbox"]) -> list[dict[str, Any]]:
    """Candidates in COCO's results format, with the detector scores."""
    results = []
    for image_id, candidates in enumerate(found, start=1):
        for each in candidates:
            x1, y1, x2, y2 = each.box_xyxy
            shape = {"segmentation": each.rle} if kind == "segm" else {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            results.append(
                {"image_id": image_id, "category_id": each.class_id + 1, "score": each.score, **shape}
            )  # fmt: skip
    return results


def by_pycocotools(images: Sequence[GroundTruthImage], found: Found, kind: Literal["segm", "bbox"]) -> COCOeval:
    """The usual evaluation with pycocotools, including ``stats``."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = as_coco(images)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(as_results(found, kind)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation
