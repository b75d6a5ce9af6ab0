"""The interface of labelers: images and ontologies in, candidate instances out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from labeler.models.detectors.detector import Image
from labeler.records import Instance
from ontologies import Ontology


class Labeler(Protocol):
    """Finds instances of the classes of an ontology."""

    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        """All candidates above the labeler's candidate floor, best detector score first.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            ontologies: one per image; they may differ.

        Returns:
            For each image its candidates. They depend only on that image and its ontology, not on the rest of the
            batch.
        """
        ...
