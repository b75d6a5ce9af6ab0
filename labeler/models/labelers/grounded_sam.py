"""Grounded SAM: a detector finds boxes, and a segmenter turns each box into a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import box_iou
from labeler.models.detectors.detector import Detections, Detector
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.segmenters.segmenter import Segmenter, SegmentPrompts
from labeler.records import Instance
from ontologies import Ontology

DISTRACTOR_IOU = 0.8  # two boxes with this IoU or more are taken for the same object


@dataclass(frozen=True)
class GroundedSamLabeler:
    """Boxes of Grounding DINO as prompts of SAM; the scores of both models are kept.

    Source: Ren et al. 2024, arXiv 2401.14159, github.com/IDEA-Research/Grounded-Segment-Anything.

    Attributes:
        candidate_floor: candidates with a lower detector score are dropped.
        max_instances: maximum number of candidates per image, the best ones; the default is that of Grounding DINO's
            COCO zero-shot evaluation.
    """

    detector: Detector
    segmenter: Segmenter
    candidate_floor: float = 0.1
    max_instances: int = 300

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        images = [request.pixels for request in requests]
        ontologies = [request.ontology for request in requests]
        prompts = [tuple(prompt for prompt, _ in ontology.prompts) for ontology in ontologies]
        detections = self.detector.detect(images, prompts)
        candidates = [self._candidates(*pair) for pair in zip(detections, ontologies, strict=True)]
        # A box that is a candidate of several classes is segmented once.
        boxes = [sorted({box for box, _, _ in image_candidates}) for image_candidates in candidates]
        masks = self.segmenter.segment(
            images,
            [
                SegmentPrompts.of_boxes(detected.boxes_xyxy[rows])
                for detected, rows in zip(detections, boxes, strict=True)
            ],
        )
        labeled = []
        for detected, ontology, image_candidates, rows, image_masks in zip(
            detections, ontologies, candidates, boxes, masks, strict=True
        ):
            mask_of = dict(zip(rows, image_masks, strict=True))
            prompts_of = ontology.prompts
            labeled.append(
                [
                    Instance(
                        class_id=prompts_of[prompt][1],
                        prompt=prompts_of[prompt][0],
                        box_xyxy=tuple(detected.boxes_xyxy[box].tolist()),
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

    def _candidates(self, detections: Detections, ontology: Ontology) -> list[tuple[int, int, float]]:
        """(box index, prompt index, score), best score first: for each box and class the prompt with the best score."""
        class_ids = np.asarray([class_id for _, class_id in ontology.prompts], np.int_)
        sizes = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
        usable = (sizes > 0).all(axis=1) & ~self._is_distractor(detections, class_ids)
        candidates = []
        for class_id in range(len(ontology.classes)):
            columns = np.flatnonzero(class_ids == class_id)
            best = columns[detections.scores[:, columns].argmax(axis=1)]
            scores = detections.scores[np.arange(len(best)), best]
            for box in np.flatnonzero(usable & (scores >= self.candidate_floor)):
                candidates.append((int(box), int(best[box]), float(scores[box])))
        candidates.sort(key=lambda candidate: (-candidate[2], candidate[0], candidate[1]))
        return candidates[: self.max_instances]

    def _is_distractor(self, detections: Detections, class_ids: NDArray[np.int_]) -> NDArray[np.bool_]:
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
