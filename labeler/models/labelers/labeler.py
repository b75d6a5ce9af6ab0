"""The interface of labelers: images with their ontologies in, candidate instances out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from labeler.models.detectors.detector import Image
from labeler.records import Instance
from ontologies import Ontology

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Detector


PendingInstances = Callable[[], list[Instance]]
"""Waits for the instances of one image and returns them; raises what went wrong with its masks alone."""


@dataclass(frozen=True, eq=False)
class LabelRequest:
    """One image to label.

    Attributes:
        image_id: path below the input root, as in its record; for what a labeler looks up by image.
        pixels: uint8 ``(H, W, 3)``, RGB, EXIF-corrected.
        ontology: the classes to look for; images of one batch may have different ones.
    """

    image_id: str
    pixels: Image
    ontology: Ontology


class Labeler(Protocol):
    """Finds instances of the classes of an ontology."""

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        """All candidates above the labeler's candidate floor, best detector score first.

        Args:
            requests: of images of any sizes.

        Returns:
            For each image its candidates. They depend only on that image and its ontology, not on the rest of the
            batch.
        """
        ...


def begin(labeler: Labeler, requests: Sequence[LabelRequest]) -> list[PendingInstances]:
    """As ``label``, but masks may still be encoded by other threads when this returns; the models are done.

    So the models can begin the next images meanwhile. A labeler that has such threads has a method ``begin`` that does
    this; any other is done with everything when this returns.

    Returns:
        One function for each image, in order.
    """
    own: Callable[[Sequence[LabelRequest]], list[PendingInstances]] | None = getattr(labeler, "begin", None)
    if own is not None:
        return own(requests)
    return [lambda instances=instances: instances for instances in labeler.label(requests)]  # type: ignore[misc]


def preparation(labeler: Labeler | None) -> Callable[[Image], None]:
    """What may be called with the pixels of an image, by any thread, some time before the image is labeled.

    A labeler that can do something ahead, such as sending the pixels to a GPU, has a method ``prepare``. Results do not
    depend on it.
    """
    own: Callable[[Image], None] | None = getattr(labeler, "prepare", None)
    return own if own is not None else lambda image: None


def detector_of(labeler: Labeler) -> Detector | None:
    """The detector that gets the prompts of a labeler's images; None if it has none.

    Tags are checked against it, and a tag gate counts its forward passes.
    """
    found: Detector | None = getattr(labeler, "detector", None)
    return found
