"""Grounded SAM: a detector's boxes are the prompts of a segmenter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import box_iou
from labeler.models.detectors.detector import Detections, Detector, Image
from labeler.models.segmenters.segmenter import Segmenter
from labeler.records import Instance
from ontologies import Ontology

# A box counts as a distractor's where a better distractor box overlaps it this much (the same box always does).
DISTRACTOR_IOU = 0.8


@dataclass(frozen=True)
class GroundedSamLabeler:
    """Grounding DINO's boxes as prompts to SAM (Ren et al. 2024), with both models' scores kept.

    Attributes:
        floor: candidates whose class score is lower are dropped.
        max_instances: candidates kept an image, the best ones; 300 as in the COCO zero-shot protocol.
    """

    detector: Detector
    segmenter: Segmenter
    floor: float = 0.1
    max_instances: int = 300

    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        prompts = [tuple(prompt for prompt, _ in ontology.prompts) for ontology in ontologies]
        detections = self.detector.detect(images, prompts)
        candidates = [self._candidates(*pair) for pair in zip(detections, ontologies, strict=True)]
        # Several classes may claim one box: it is segmented once.
        boxes = [sorted({box for box, _, _ in image_candidates}) for image_candidates in candidates]
        masks = self.segmenter.segment(
            images, [found.boxes_xyxy[rows] for found, rows in zip(detections, boxes, strict=True)]
        )
        labeled = []
        for found, ontology, image_candidates, rows, image_masks in zip(
            detections, ontologies, candidates, boxes, masks, strict=True
        ):
            mask_of = dict(zip(rows, image_masks, strict=True))
            prompts_of = ontology.prompts
            labeled.append(
                [
                    Instance(
                        class_id=prompts_of[prompt][1],
                        prompt=prompts_of[prompt][0],
                        box_xyxy=tuple(found.boxes_xyxy[box].tolist()),
                        score=score,
                        mask_score=float(np.clip(mask_of[box].mask_score, 0, 1)),
                        stability=mask_of[box].stability,
                        area=mask_of[box].area,
                        rle=mask_of[box].rle,
                    )
                    for box, prompt, score in image_candidates
                ]
            )
        return labeled

    def _candidates(self, found: Detections, ontology: Ontology) -> list[tuple[int, int, float]]:
        """(box, prompt, score): for each box and class the best prompt, above the floor, best first."""
        class_ids = np.asarray([class_id for _, class_id in ontology.prompts])
        sizes = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
        usable = (sizes > 0).all(axis=1) & ~self._distracted(found, class_ids)
        candidates = []
        for class_id in range(len(ontology.classes)):
            columns = np.flatnonzero(class_ids == class_id)
            best = columns[found.scores[:, columns].argmax(axis=1)]
            scores = found.scores[np.arange(len(best)), best]
            for box in np.flatnonzero(usable & (scores >= self.floor)):
                candidates.append((int(box), int(best[box]), float(scores[box])))
        candidates.sort(key=lambda candidate: (-candidate[2], candidate[0], candidate[1]))
        return candidates[: self.max_instances]

    def _distracted(self, found: Detections, class_ids: NDArray[np.int_]) -> NDArray[np.bool_]:
        """Boxes that a distractor claims with a better score than any class does; bool ``(n,)``."""
        nothing = np.zeros(len(found.boxes_xyxy), dtype=bool)
        is_distractor = class_ids < 0
        if not is_distractor.any() or not len(nothing):
            return nothing
        distractor = found.scores[:, is_distractor].max(axis=1)
        wanted = found.scores[:, ~is_distractor].max(axis=1)
        overlaps = box_iou(found.boxes_xyxy, found.boxes_xyxy) >= DISTRACTOR_IOU
        claimed: NDArray[np.bool_] = np.where(overlaps, distractor[None, :], 0).max(axis=1) > wanted
        return claimed
