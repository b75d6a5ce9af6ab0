from __future__ import annotations

import contextlib
import io
from typing import Any

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labeler.geometry.masks import Rle, mask_to_rle, rle_area, rle_box_xyxy
from labeler.ground_truth import IGNORED, UNMATCHED, GroundTruthInstance, match_masks


def blob(rng: np.random.Generator, around: tuple[int, int] | None = None) -> tuple[Rle, tuple[int, int]]:
    x, y = around or (int(rng.integers(10, 90)), int(rng.integers(10, 50)))
    centre = (x + int(rng.integers(-3, 4)), y + int(rng.integers(-3, 4)))
    mask = np.zeros((60, 100), dtype=np.uint8)
    cv2.ellipse(mask, centre, (int(rng.integers(4, 16)), int(rng.integers(4, 16))), 0, 0, 360, 1, -1)
    return mask_to_rle(mask.astype(bool)), (x, y)


def annotation(number: int, rle: Rle, **more: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = rle_box_xyxy(rle)
    box, area = [x1, y1, x2 - x1, y2 - y1], rle_area(rle)
    return {"id": number, "image_id": 1, "category_id": 1, "segmentation": rle, "bbox": box, "area": area, **more}


def evaluated(true: list[GroundTruthInstance], found: list[Rle]) -> dict[str, Any]:
    """What pycocotools finds in one image, the candidates ranked in their order."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1, "height": 60, "width": 100}],
            "categories": [{"id": 1}],
            "annotations": [annotation(n, t.rle, iscrowd=int(t.crowd)) for n, t in enumerate(true, start=1)],
        }
        coco.createIndex()
        evaluation = COCOeval(
            coco, coco.loadRes([annotation(n, rle, score=1 - n / 100) for n, rle in enumerate(found)]), "segm"
        )
        evaluation.evaluate()
    return dict(evaluation.evalImgs[0])


def test_matches_are_those_of_pycocotools() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        placed = [blob(rng) for _ in range(rng.integers(1, 8))]
        placed.append(placed[0])  # objects of the same shape: ties
        true = [GroundTruthInstance(0, rle, crowd=bool(rng.random() < 0.25)) for rle, _ in placed]
        found = [blob(rng, placed[rng.integers(len(placed))][1])[0] for _ in range(12)]
        found += [rle for rle, _ in placed]
        whole = evaluated(true, found)
        for row, threshold in ((0, 0.5), (4, 0.7)):
            wanted = [
                UNMATCHED if not match else IGNORED if ignored else int(match) - 1
                for match, ignored in zip(whole["dtMatches"][row], whole["dtIgnore"][row], strict=True)
            ]
            assert match_masks(found, true, threshold).tolist() == wanted, f"seed {seed}, threshold {threshold}"


def test_nothing_to_match() -> None:
    mask = mask_to_rle(np.ones((4, 4), dtype=bool))
    assert match_masks([], [GroundTruthInstance(0, mask)]).tolist() == []
    assert match_masks([mask], []).tolist() == [UNMATCHED]
