"""AP and AR of COCO (Lin et al. 2014, https://cocodataset.org/#detection-eval) and LVIS, one image at a time.

Detections are matched here, pycocotools accumulates, and the results are those of ``COCOeval`` over all images at once.
Between matching and accumulating, only a few bytes per detection are kept, so a hundred thousand images or a thousand
classes fit into memory.
"""

from __future__ import annotations

import contextlib
import io
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from labeler.geometry.masks import mask_containment
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.metrics.matching import match_detections
from labeler.metrics.overlaps import ImageOverlaps
from labeler.records import Instance

Ints = NDArray[np.int64]
Bits = NDArray[np.uint16]
COCO_LIMIT = 100  # maximum detections per image and class
LVIS_LIMIT = 300  # maximum detections per image
INSIDE_BOX = 0.5  # share of a detection's area


@dataclass(frozen=True, slots=True)
class CocoMetrics:
    """Metrics in [0, 1]; None if there is no such object, where pycocotools gives -1.

    Attributes:
        ap: average precision, the mean over the IoU thresholds 0.50, 0.55, …, 0.95.
        ap50, ap75: average precision at IoU 0.50 and 0.75.
        ap_small, ap_medium, ap_large: ``ap`` of objects with an area up to 32² pixels, up to 96² pixels, and above.
        ar1, ar10, ar: average recall with at most 1, 10 and 100 detections per image and class (LVIS: ``ar`` with at
            most 300 per image).
        ar_small, ar_medium, ar_large: ``ar`` by object area.
    """

    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    ar1: float | None = None
    ar10: float | None = None
    ar: float | None = None
    ar_small: float | None = None
    ar_medium: float | None = None
    ar_large: float | None = None

    @classmethod
    def mean(cls, per_class: Iterable[CocoMetrics]) -> CocoMetrics:
        """The mean of each metric over the classes for which it is not None."""
        columns = list(zip(*map(astuple, per_class), strict=True)) or [()] * len(fields(cls))
        return cls(*(fmean(known) if (known := [v for v in column if v is not None]) else None for column in columns))


class CocoAccumulator:
    """Computes COCO metrics from images that are added one by one, in any order.

    Ground truth such as that of LVIS (Gupta et al. 2019, arXiv 1908.03195) is incomplete. Classes that were not looked
    for in an image do not count there. Unmatched detections of classes that are not exhaustively labeled in an image
    are neither right nor wrong. For masks, neither are unmatched detections that lie, with half of their area or more,
    in the box of an object without a mask; such objects count for boxes alone.

    Args:
        kind: ``segm`` compares masks, ``bbox`` the detector's boxes.
        image_limit: maximum detections per image over all classes, as in LVIS (300); None for 100 per image and class,
            as in COCO.
    """

    def __init__(self, kind: Literal["segm", "bbox"], image_limit: int | None = None) -> None:
        self._image_limit = image_limit
        self._kind = kind
        self._evaluation = COCOeval(iouType=kind)
        params = self._evaluation.params
        params.maxDets = [1, 10, image_limit or COCO_LIMIT]
        self._lowest, self._highest = np.array(params.areaRng, dtype=np.float64).T[:, :, None]
        self._bits = 1 << np.arange(len(params.iouThrs), dtype=np.uint16)
        self._found = _Detections(len(params.areaRng))
        self._objects: dict[int, Ints] = {}  # by class, how many count in each range of areas

    def add(
        self,
        index: int,
        image: GroundTruthImage,
        candidates: Sequence[Instance],
        scores: Sequence[float],
        overlaps: ImageOverlaps | None = None,
    ) -> None:
        """Add an image.

        Args:
            index: the image's index in the ground truth. It decides the order of detections with equal scores.
            image: the ground truth.
            candidates: the detections, with class ids of the ground truth.
            scores: one per candidate, to rank them by.
            overlaps: of ``candidates`` and the objects of ``image``, if they are known.
        """
        overlaps = overlaps or ImageOverlaps(candidates, image.instances)
        counted = np.ones(len(image.instances), np.bool_) if self._kind == "bbox" else ~overlaps.box_only
        crowd, object_classes = overlaps.crowd[counted], overlaps.object_classes[counted]
        uncounted = crowd | self._outside(overlaps.object_areas[counted])
        for class_id, counts in zip(object_classes.tolist(), (~uncounted).T.astype(np.int64), strict=True):
            self._objects[class_id] = self._objects.get(class_id, 0) + counts
        ranked = sorted(range(len(candidates)), key=lambda position: -scores[position])[: self._image_limit]
        chosen, ranks = self._ranks(image, [(position, candidates[position].class_id) for position in ranked])
        if not chosen:
            return
        rows = np.array(chosen)
        if self._kind == "segm":
            areas: NDArray[Any] = overlaps.areas
            ious = overlaps.masks
        else:
            areas, ious = overlaps.boxes[:, 2] * overlaps.boxes[:, 3], overlaps.of_boxes
        matched, ignored = match_detections(ious[rows][:, counted], self._evaluation.params.iouThrs, uncounted, crowd)
        classes = overlaps.classes[rows].tolist()
        unjudged = self._outside(areas[rows])
        if image.not_exhaustive:
            unjudged |= np.array([class_id in image.not_exhaustive for class_id in classes])
        if not counted.all():
            unjudged |= _in_boxes(candidates, image.instances, chosen)
        ignored |= ~matched & unjudged[:, :, None]
        bits = np.stack([matched, ignored]) @ self._bits
        self._found.add(index, classes, ranks, [scores[position] for position in chosen], bits)

    def _ranks(self, image: GroundTruthImage, ranked: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
        """The positions of the detections that count, from (position, class id), and their ranks in their classes."""
        limit = self._evaluation.params.maxDets[-1]
        seen: Counter[int] = Counter()
        looked_for = {class_id: image.looked_for(class_id) for class_id in {class_id for _, class_id in ranked}}
        chosen: list[int] = []
        ranks: list[int] = []
        for position, class_id in ranked:
            if looked_for[class_id] and seen[class_id] < limit:
                chosen.append(position)
                ranks.append(seen[class_id])
                seen[class_id] += 1
        return chosen, ranks

    def include(self, other: CocoAccumulator) -> None:
        """Add the images of another accumulator of the same kind and limit."""
        self._found.extend(other._found)
        for class_id, counts in other._objects.items():
            self._objects[class_id] = self._objects.get(class_id, 0) + counts

    def _outside(self, areas: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of n areas lie outside each range of object areas, bool ``(ranges, n)``."""
        outside: NDArray[np.bool_] = (areas < self._lowest) | (areas > self._highest)
        return outside

    def per_class(self, class_count: int) -> list[CocoMetrics]:
        """The metrics of each class, by class id; ``CocoMetrics.mean`` of them gives the published figures."""
        found = self._found.by_class(class_count)
        return [
            self._metrics(each, self._objects[class_id]) if class_id in self._objects else CocoMetrics()
            for class_id, each in enumerate(found)
        ]

    def _metrics(self, found: _ClassDetections, objects: Ints) -> CocoMetrics:
        limits = self._evaluation.params.maxDets
        precision, recall = self._accumulated(found, objects, limits[-1])
        few = [self._accumulated(found, objects[:1], limit)[1][:, 0] for limit in limits[:-1]]
        means = [precision[:, :, 0], precision[0, :, 0], precision[5, :, 0]]
        means += [precision[:, :, area] for area in (1, 2, 3)]
        means += [*few, *(recall[:, area] for area in range(4))]
        return CocoMetrics(*(float(np.mean(each)) if each.min() > -1 else None for each in means))

    def _accumulated(
        self, found: _ClassDetections, objects: Ints, limit: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision ``(IoU, recall, area)`` and recall ``(IoU, area)`` with at most ``limit`` detections per image.

        Args:
            objects: how many count in each of the ranges of object areas that are asked for, beginning with the first.
        """
        kept = found.ranks < limit
        scores, bits = found.scores[kept], found.bits[kept]
        evaluation = COCOeval(iouType=self._kind)
        params = evaluation.params
        params.areaRng = params.areaRng[: len(objects)]
        params.imgIds, params.catIds, params.maxDets = [0], [0], [max(len(scores), 1)]
        evaluation._paramsEval = params
        evaluation.evalImgs = [
            {
                "dtScores": scores,
                "dtMatches": (bits[:, 0, area] & self._bits[:, None]) > 0,
                "dtIgnore": (bits[:, 1, area] & self._bits[:, None]) > 0,
                "gtIgnore": np.zeros(count),
            }
            for area, count in enumerate(objects)
        ]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            evaluation.accumulate()
        return evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]


class _ClassDetections(NamedTuple):
    """The detections of one class, image by image; ``bits`` as in ``_Detections``."""

    ranks: NDArray[np.uint16]
    scores: NDArray[np.float64]
    bits: NDArray[np.uint16]


class _Detections:
    """Columns with a row for each detection: class, image index, rank within class and image, score, and bits.

    Bits tell for each IoU threshold whether it is matched, and whether it is ignored, for each range of object areas;
    uint16 ``(2, ranges)`` in a row.
    """

    def __init__(self, ranges: int) -> None:
        self._ranges = ranges
        self._classes, self._images, self._ranks = array("i"), array("I"), array("H")
        self._scores, self._bits = array("d"), array("H")

    def add(
        self, index: int, classes: Sequence[int], ranks: Sequence[int], scores: Sequence[float], bits: Bits
    ) -> None:
        """Add the detections of an image; ``bits``: uint16 ``(2, ranges, n)``."""
        self._classes.extend(classes)
        self._images.extend([index] * len(ranks))
        self._ranks.extend(ranks)
        self._scores.extend(scores)
        self._bits.frombytes(np.moveaxis(bits, 2, 0).astype(np.uint16).tobytes())

    def extend(self, other: _Detections) -> None:
        """Add all detections of ``other``."""
        for name, column in vars(other).items():
            if isinstance(column, array):
                getattr(self, name).extend(column)

    def by_class(self, count: int) -> Iterator[_ClassDetections]:
        """The detections of each class id below ``count``, ordered by image and rank."""
        classes = np.array(self._classes)
        order = np.lexsort((np.array(self._images), classes))
        bits = np.array(self._bits, np.uint16).reshape(-1, 2, self._ranges)
        ranks, scores = np.array(self._ranks, np.uint16), np.array(self._scores, np.float64)
        begins = np.searchsorted(classes[order], np.arange(count + 1))
        for begin, end in pairwise(begins.tolist()):
            rows = order[begin:end]
            yield _ClassDetections(ranks[rows], scores[rows], bits[rows])


def _in_boxes(
    candidates: Sequence[Instance], objects: Sequence[GroundTruthInstance], chosen: Sequence[int]
) -> NDArray[np.bool_]:
    """Which of the candidates ``chosen`` lie in the box of an object of their class that has no mask."""
    inside = np.zeros(len(chosen), np.bool_)
    for row, position in enumerate(chosen):
        found = candidates[position]
        boxes = [each.rle for each in objects if each.box_only and each.class_id == found.class_id]
        inside[row] = mask_containment([found.rle], boxes).max(initial=0.0) >= INSIDE_BOX
    return inside
