"""Scores for boxes of a detector that gives none: how likely the crop shows what was asked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from labeler.models.detectors.detector import Detections, Detector, Image, Prompts
from ontologies.taggers.vocabulary import VocabularyTagger


class VerifiedDetector:
    """Replaces the scores of ``detector`` by a tagger's probability of the prompt on the crop of each box.

    Args:
        tagger_for: makes the SigLIP or CLIP tagger of some prompts.
    """

    def __init__(self, detector: Detector, tagger_for: Callable[[Prompts], VocabularyTagger]) -> None:
        self.detector = detector
        self._tagger_for = functools.lru_cache(maxsize=64)(tagger_for)

    def forward_passes(self, prompts: Prompts) -> int:
        return self.detector.forward_passes(prompts)

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        detections = self.detector.detect(images, prompts)
        return [self._verified(*each) for each in zip(detections, images, prompts, strict=True)]

    def _verified(self, found: Detections, image: Image, prompts: Prompts) -> Detections:
        if not len(found.boxes_xyxy):
            return found
        scores = self._tagger_for(prompts).scores([_crop(image, box) for box in found.boxes_xyxy])
        return Detections(found.boxes_xyxy, np.where(found.scores > 0, scores, 0).astype(np.float32))


def _crop(image: Image, box_xyxy: NDArray[np.float32]) -> Image:
    """The pixels that a box touches; at least one."""
    height, width = image.shape[:2]
    left, top = np.floor(box_xyxy[:2]).astype(int)
    right, bottom = np.ceil(box_xyxy[2:]).astype(int)
    left, top = min(left, width - 1), min(top, height - 1)
    return image[top : max(bottom, top + 1), left : max(right, left + 1)]
