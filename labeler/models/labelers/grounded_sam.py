"""Grounded SAM: a detector finds boxes, and a segmenter turns each box into a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from labeler.models.detectors.detector import Detections, Detector
from labeler.models.labelers.candidates import best_candidates, instance_of
from labeler.models.labelers.labeler import LabelRequest, PendingInstances
from labeler.models.segmenters.segmenter import PendingMaskList, Segmenter, SegmentPrompts, begin_masks
from labeler.records import Instance
from ontologies import Ontology


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
        return [instances() for instances in self.begin(requests)]

    def begin(self, requests: Sequence[LabelRequest]) -> list[PendingInstances]:
        """See ``labeler.models.labelers.labeler.begin``."""
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
        masks = begin_masks(
            self.segmenter,
            images,
            [
                SegmentPrompts.of_boxes(detected.boxes_xyxy[rows])
                for detected, rows in zip(detections, boxes, strict=True)
            ],
        )
        return [
            partial(_instances, *of_image)
            for of_image in zip(detections, ontologies, candidates, boxes, masks, strict=True)
        ]


def _instances(
    detected: Detections,
    ontology: Ontology,
    candidates: Sequence[tuple[int, int, float]],
    boxes: Sequence[int],
    masks: PendingMaskList,
) -> list[Instance]:
    """The instances of one image.

    Args:
        candidates: see ``best_candidates``.
        boxes: rows of ``detected`` that were segmented, in the order of ``masks``.
    """
    mask_of = dict(zip(boxes, masks(), strict=True))
    return [
        instance_of(ontology.prompts[prompt], detected.boxes_xyxy[box].tolist(), score, mask_of[box])
        for box, prompt, score in candidates
    ]
