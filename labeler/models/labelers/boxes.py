"""Labels images with boxes that are given: a segmenter turns each into a mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from labeler.errors import ImageError
from labeler.formats.given_boxes import GivenBoxes, ImageBoxes, as_prompt
from labeler.ground_truth import class_key
from labeler.models.labelers.candidates import instance_of
from labeler.models.labelers.labeler import LabelRequest, PendingInstances
from labeler.models.segmenters.segmenter import PendingMaskList, Segmenter, SegmentPrompts, begin_masks
from labeler.records import Instance


@dataclass(frozen=True)
class BoxLabeler:
    """Every given box of the ontology's classes becomes a candidate, with score 1.0: somebody has drawn it.

    The prompts of the ontology name classes of the boxes; see ``labeler.ground_truth.class_key`` for equal names.

    Attributes:
        renamed: image id -> name among the boxes, where they differ.
    """

    boxes: GivenBoxes
    renamed: Mapping[str, str]
    segmenter: Segmenter

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        return [instances() for instances in self.begin(requests)]

    def begin(self, requests: Sequence[LabelRequest]) -> list[PendingInstances]:
        """See ``labeler.models.labelers.labeler.begin``."""
        given = [self._boxes_of(request) for request in requests]
        asked = [self._asked(request, boxes) for request, boxes in zip(requests, given, strict=True)]
        masks = begin_masks(
            self.segmenter,
            [request.pixels for request in requests],
            [SegmentPrompts.of_boxes(boxes.boxes_xyxy[list(rows)]) for boxes, rows in zip(given, asked, strict=True)],
        )
        return [partial(_instances, *of_image) for of_image in zip(given, asked, masks, strict=True)]

    def _boxes_of(self, request: LabelRequest) -> ImageBoxes:
        """Raises ImageError if the image has no entry, or one for another size."""
        boxes = self.boxes.images.get(self.renamed.get(request.image_id, request.image_id))
        if boxes is None:
            raise ImageError("the file of boxes does not name this image")
        height, width = request.pixels.shape[:2]
        if (boxes.width, boxes.height) != (width, height):
            raise ImageError(
                f"the boxes are for {boxes.width} x {boxes.height} pixels, the image has {width} x {height}"
            )
        return boxes

    def _asked(self, request: LabelRequest, boxes: ImageBoxes) -> dict[int, tuple[str, int]]:
        """Row -> (prompt, class id) of the boxes of the ontology's classes, in the order of the file."""
        asked = {
            class_key(prompt): (prompt, class_id) for prompt, class_id in request.ontology.prompts if class_id >= 0
        }
        names = [class_key(as_prompt(name)) for name in self.boxes.class_names]
        return {
            row: asked[names[class_id]]
            for row, class_id in enumerate(boxes.class_ids.tolist())
            if names[class_id] in asked
        }


def _instances(boxes: ImageBoxes, asked: Mapping[int, tuple[str, int]], masks: PendingMaskList) -> list[Instance]:
    """The instances of one image; ``asked`` as ``BoxLabeler._asked`` returns it, in the order of ``masks``."""
    return [
        instance_of(prompt, boxes.boxes_xyxy[row].tolist(), 1.0, mask)
        for (row, prompt), mask in zip(asked.items(), masks(), strict=True)
    ]
