"""Labels against the truth: COCO's AP over raw candidates, precision and recall of what the gate accepted."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labeler.masks import mask_iou
from labeler.records import Instance


@dataclass(frozen=True)
class MaskMetrics:
    """In [0, 1].

    Attributes:
        ap: mask AP averaged over IoU 0.50 to 0.95 (Lin et al. 2014).
        ap50, ap75: mask AP at one IoU.
    """

    ap: float
    ap50: float
    ap75: float


def mask_ap(truth: dict[str, Any], instances: Iterable[tuple[int, int, Instance]]) -> MaskMetrics:
    """COCO mask AP by pycocotools.

    Args:
        truth: a COCO dictionary.
        instances: (image id, category id, instance) with the ids of ``truth``, ranked by their joint score.
    """
    found = [
        {
            "image_id": image_id,
            "category_id": category_id,
            "segmentation": instance.rle,
            "score": instance.joint_score,
        }
        for image_id, category_id, instance in instances
    ]
    if not found:
        return MaskMetrics(0.0, 0.0, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        coco = COCO()
        coco.dataset = {"info": {}, **truth}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return MaskMetrics(*(float(value) for value in evaluation.stats[:3]))


def precision_recall(
    truth: dict[str, Any], instances: Sequence[tuple[int, int, Instance]], iou: float = 0.5
) -> tuple[float, float]:
    """Precision and recall of ``instances`` as they are, matched greedily by score within image and class."""
    true_masks: dict[tuple[int, int], list[Any]] = {}
    for annotation in truth["annotations"]:
        true_masks.setdefault((annotation["image_id"], annotation["category_id"]), []).append(
            annotation["segmentation"]
        )
    found: dict[tuple[int, int], list[Instance]] = {}
    for image_id, category_id, instance in instances:
        found.setdefault((image_id, category_id), []).append(instance)
    matched = 0
    for key, candidates in found.items():
        if key not in true_masks:
            continue
        ranked = sorted(candidates, key=lambda instance: -instance.joint_score)
        overlaps = mask_iou([instance.rle for instance in ranked], true_masks[key])
        for row in overlaps:
            best = int(np.argmax(row))
            if row[best] >= iou:
                matched += 1
                overlaps[:, best] = 0
    wanted = len(truth["annotations"])
    return matched / max(len(instances), 1), matched / max(wanted, 1)
