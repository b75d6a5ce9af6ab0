"""A tagger out of a detector: sweep it over a vocabulary, and name what it finds. Needs no further weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ontologies.ontology import OntologyError
from ontologies.taggers import Image, Tags, best_first


class Found(Protocol):
    @property
    def scores(self) -> NDArray[np.float32]:
        """Of each box for each prompt, ``(boxes, prompts)`` in [0, 1]."""
        ...


class BoxDetector(Protocol):
    def detect(self, images: Sequence[Image], prompts: Sequence[tuple[str, ...]]) -> Sequence[Found]: ...


class DetectorTagger:
    """A word's score is that of its best box.

    Args:
        detector: a zero-shot detector; what does not fit into one forward it splits by itself.
        vocabulary: words or noun phrases.
        threshold: tags of a lower score are not reported.
    """

    def __init__(self, detector: BoxDetector, vocabulary: Sequence[str], threshold: float = 0.3) -> None:
        if not vocabulary:
            raise OntologyError("the vocabulary is empty; name at least one word")
        self.detector = detector
        self.vocabulary = tuple(vocabulary)
        self.threshold = threshold

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        tagged = []
        for found in self.detector.detect(images, [self.vocabulary] * len(images)):
            scores = found.scores.max(axis=0, initial=0.0)
            above = np.flatnonzero(scores >= self.threshold)
            tagged.append(best_first({self.vocabulary[index]: float(scores[index]) for index in above}))
        return tagged
