"""Grounded SAM: a detector finds boxes, and a segmenter turns each box into a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labeler.models.detectors.detector import Detector
from labeler.models.labelers.candidates import best_candidates, instance_of
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.segmenters.segmenter import Segmenter, SegmentPrompts
from labeler.records import Instance


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
        candidates = [
            best_candidates(*pair, self.candidate_floor, self.max_instances)
            for pair in zip(detections, ontologies, strict=True)
        ]
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
            labeled.append(
                [
                    instance_of(ontology.prompts[prompt], detected.boxes_xyxy[box].tolist(), score, mask_of[box])
                    for box, prompt, score in image_candidates
                ]
            )
        return labeled
