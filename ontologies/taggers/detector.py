"""A tagger that runs a detector on each word of a vocabulary. It needs no weights besides the detector's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ontologies.ontology import OntologyError
from ontologies.taggers import Image, Tags, best_first


class ScoredBoxes(Protocol):
    """The part of ``labeler.models.detectors.detector.Detections`` that is used here."""

    @property
    def scores(self) -> NDArray[np.float32]:
        """The score of each box for each prompt, float32 ``(boxes, prompts)`` in [0, 1]."""
        ...


class BoxDetector(Protocol):
    """The part of ``labeler.models.detectors.detector.Detector`` that is used here."""

    def detect(self, images: Sequence[Image], prompts: Sequence[tuple[str, ...]]) -> Sequence[ScoredBoxes]: ...


class DetectorTagger:
    """Tags images with a zero-shot detector; the score of a word is that of its best box.

    Args:
        detector: takes all words at once, and splits them into several forward passes if needed.
        vocabulary: words or noun phrases.
        threshold: tags with a lower score are dropped.

    Raises:
        OntologyError: the vocabulary is empty.
    """

    def __init__(self, detector: BoxDetector, vocabulary: Sequence[str], threshold: float = 0.3) -> None:
        if not vocabulary:
            raise OntologyError("the vocabulary is empty; name at least one word")
        self.detector = detector
        self.vocabulary = tuple(vocabulary)
        self.threshold = threshold

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        tagged = []
        for boxes in self.detector.detect(images, [self.vocabulary] * len(images)):
            scores = boxes.scores.max(axis=0, initial=0.0)
            above = np.flatnonzero(scores >= self.threshold)
            tagged.append(best_first({self.vocabulary[index]: float(scores[index]) for index in above}))
        return tagged
