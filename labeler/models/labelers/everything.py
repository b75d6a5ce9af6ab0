"""Segment everything: a grid of points, and the masks that a SAM proposes for each.

The method is that of ``SamAutomaticMaskGenerator`` of segment-anything (Kirillov et al. 2023, arXiv 2304.02643,
``segment_anything/automatic_mask_generator.py``), in the form of the pipeline ``mask-generation`` of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import box_iou
from labeler.geometry.masks import Rle, clean_mask, rle_area, rle_box_xyxy, rle_to_mask, window_to_rle
from labeler.models.detectors.detector import Image
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.segmenters.segmenter import SegmentedMask
from labeler.records import Instance

if TYPE_CHECKING:
    from labeler.models.segmenters.sam import SamSegmenter

CROP_OVERLAP = 512 / 1500  # of neighbouring crops of the first layer, as a share of the image's short side
EDGE = 20  # pixels; a mask this close to an inner edge of its crop is probably cut off, and another crop shows it whole
Crop = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class _Found:
    """A mask at the size of its crop, and its box in the image, up to the last pixel."""

    mask: SegmentedMask
    crop: Crop
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class EverythingLabeler:
    """One instance per mask, all of the first class of the ontology.

    No word is asked, so the detector score of every instance is 1.0. The joint score is then the segmenter's own
    estimate of the mask's IoU, and so the gate, ``tune``, the report and the order of review all go by it.

    Of masks whose boxes overlap much, the best is kept, as in the pipeline. The gate removes duplicates by mask.

    Attributes:
        points_per_side: of the grid on the image and on each crop.
        crop_layers: layer n has 4^n crops.
        min_mask_score, min_stability: masks are kept above these; 0 keeps all.
        max_box_iou: of two masks whose boxes overlap more, the better is kept.
        max_instances: maximum number of masks per image, the best ones.
        clean_share: see ``labeler.geometry.masks.clean_mask``; masks are filtered before they are cleaned.
    """

    segmenter: SamSegmenter
    points_per_side: int
    crop_layers: int
    min_mask_score: float
    min_stability: float
    max_box_iou: float
    max_instances: int = 300
    clean_share: float = 0.01

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        return [self._label_one(request) for request in requests]

    def _label_one(self, request: LabelRequest) -> list[Instance]:
        prompt, class_id = next(each for each in request.ontology.prompts if each[1] >= 0)
        height, width = request.pixels.shape[:2]
        instances = []
        for found in self._best(self._proposals(request.pixels)):
            rle = _in_image(found.mask.rle, found.crop, height, width, self.clean_share)
            instances.append(
                Instance(
                    class_id=class_id,
                    prompt=prompt,
                    box_xyxy=rle_box_xyxy(rle),
                    score=1.0,
                    mask_score=float(np.clip(found.mask.mask_score, 0, 1)),
                    stability=found.mask.stability,
                    area=rle_area(rle),
                    rle=rle,
                )
            )
        return instances

    def _proposals(self, image: Image) -> list[_Found]:
        height, width = image.shape[:2]
        grid = point_grid(self.points_per_side)
        found = []
        for crop in crops(height, width, self.crop_layers):
            left, top, right, bottom = crop
            encoded = self.segmenter.encode(np.ascontiguousarray(image[top:bottom, left:right]))
            points = (grid * [right - left, bottom - top]).astype(np.float32)
            for mask in self.segmenter.proposals(encoded, points, self.min_mask_score, self.min_stability):
                x1, y1, x2, y2 = rle_box_xyxy(mask.rle)
                box = (x1 + left, y1 + top, x2 + left - 1, y2 + top - 1)
                if mask.area and not _near_inner_edge(box, crop, height, width):
                    found.append(_Found(mask, crop, box))
        return found

    def _best(self, found: list[_Found]) -> list[_Found]:
        """Non-maximum suppression by boxes, best mask score first."""
        scores = np.array([each.mask.mask_score for each in found])
        boxes = np.array([each.box_xyxy for each in found], np.float32).reshape(-1, 4)
        waiting = np.argsort(-scores, kind="stable")
        kept: list[_Found] = []
        while len(waiting) and len(kept) < self.max_instances:
            best, waiting = waiting[0], waiting[1:]
            kept.append(found[best])
            waiting = waiting[box_iou(boxes[best : best + 1], boxes[waiting])[0] <= self.max_box_iou]
        return kept


def point_grid(per_side: int) -> NDArray[np.float64]:
    """The centres of ``per_side`` x ``per_side`` equal cells, row by row: float64 ``(n, 2)`` in (0, 1)."""
    centres = (np.arange(per_side) + 0.5) / per_side
    return np.stack(np.meshgrid(centres, centres), axis=-1).reshape(-1, 2)


def crops(height: int, width: int, layers: int) -> Iterator[Crop]:
    """The whole image, then the crops of each layer: 2 by 2, 4 by 4, and so on. They overlap."""
    yield 0, 0, width, height
    for layer in range(1, layers + 1):
        per_side = 2**layer
        overlap = int(CROP_OVERLAP * min(height, width) * (2 / per_side))
        crop_width, crop_height = (math.ceil((overlap * (per_side - 1) + side) / per_side) for side in (width, height))
        for column, row in product(range(per_side), repeat=2):
            left, top = column * (crop_width - overlap), row * (crop_height - overlap)
            if left < width and top < height:  # else the image is only a few pixels wide or high
                yield left, top, min(left + crop_width, width), min(top + crop_height, height)


def _near_inner_edge(box: tuple[float, float, float, float], crop: Crop, height: int, width: int) -> bool:
    """Whether a side of the box is close to an edge of its crop that is no edge of the image."""
    sides = np.array(box)
    near_crop, near_image = (np.abs(sides - edges) <= EDGE for edges in (crop, (0, 0, width, height)))
    return bool((near_crop & ~near_image).any())


def _in_image(rle: Rle, crop: Crop, height: int, width: int, clean_share: float) -> Rle:
    """A mask of a crop, cleaned and at image size."""
    left, top, _, _ = crop
    return window_to_rle(clean_mask(rle_to_mask(rle), clean_share), left, top, width, height)
