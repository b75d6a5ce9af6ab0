"""Which of a detector's boxes are candidates, and of which class; and the instances that they become."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import box_iou
from labeler.models.detectors.detector import Detections
from labeler.models.segmenters.segmenter import SegmentedMask
from labeler.records import Instance
from ontologies import Ontology

DISTRACTOR_IOU = 0.8  # two boxes with this IoU or more are taken for the same object


def best_candidates(
    detections: Detections, ontology: Ontology, candidate_floor: float, max_instances: int
) -> list[tuple[int, int, float]]:
    """(box index, prompt index, score), best score first: for each box and class the prompt with the best score.

    Args:
        detections: with the prompts of ``ontology``, in their order.
        candidate_floor: candidates with a lower score are dropped, as are boxes without area and distractors.
        max_instances: maximum number of candidates, the best ones.
    """
    class_ids = np.asarray([class_id for _, class_id in ontology.prompts], np.int_)
    sizes = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
    usable = (sizes > 0).all(axis=1) & ~_is_distractor(detections, class_ids)
    by_class = np.argsort(class_ids, kind="stable")
    by_class = by_class[class_ids[by_class] >= 0]
    starts = np.searchsorted(class_ids[by_class], np.arange(len(ontology.classes) + 1))  # of the prompts of each class
    scores = detections.scores[:, by_class]
    best = np.maximum.reduceat(scores, starts[:-1], axis=1)
    boxes, classes = np.nonzero(usable[:, None] & (best >= candidate_floor))
    kept = best[boxes, classes]
    is_best = scores[boxes] == np.repeat(best[boxes], np.diff(starts), axis=1)
    is_best &= np.repeat(np.arange(len(ontology.classes)), np.diff(starts)) == classes[:, None]
    prompts = by_class[is_best.argmax(axis=1)]  # the first of equal ones
    order = np.lexsort((prompts, boxes, -kept))[:max_instances]
    return list(zip(boxes[order].tolist(), prompts[order].tolist(), kept[order].tolist(), strict=True))


def instance_of(prompt: tuple[str, int], box_xyxy: Sequence[float], score: float, mask: SegmentedMask) -> Instance:
    """The instance of a box and its mask; ``prompt`` is one of ``Ontology.prompts``, with its class id."""
    x1, y1, x2, y2 = box_xyxy
    return Instance(
        class_id=prompt[1],
        prompt=prompt[0],
        box_xyxy=(x1, y1, x2, y2),
        score=score,
        mask_score=float(np.clip(mask.mask_score, 0, 1)),
        stability=mask.stability,
        area=mask.area,
        rle=mask.rle,
    )


def _is_distractor(detections: Detections, class_ids: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Which boxes show a distractor, bool ``(n,)``.

    A box does if it, or another box on the same object, scores higher for a distractor than the box for any class.
    """
    boxes = detections.boxes_xyxy
    distractors = class_ids < 0
    if not distractors.any() or not len(boxes):
        return np.zeros(len(boxes), dtype=bool)
    distractor_score = detections.scores[:, distractors].max(axis=1)
    class_score = detections.scores[:, ~distractors].max(axis=1)
    same_object = box_iou(boxes, boxes) >= DISTRACTOR_IOU
    shows_one: NDArray[np.bool_] = np.where(same_object, distractor_score[None, :], 0).max(axis=1) > class_score
    return shows_one
