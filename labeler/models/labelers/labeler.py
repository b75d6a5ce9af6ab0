"""The interface of labelers: images and ontologies in, candidate instances out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from labeler.models.detectors.detector import Image
from labeler.records import Instance
from ontologies import Ontology


class Labeler(Protocol):
    def label(self, images: Sequence[Image], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        """Every candidate above the labeler's floor, best detector score first.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            ontologies: one an image; they may differ.
        """
        ...
