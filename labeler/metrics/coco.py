"""AP and AR of COCO (Lin et al. 2014, https://cocodataset.org/#detection-eval) and LVIS, one image at a time.

Detections are matched here, pycocotools accumulates, and the results are those of ``COCOeval`` over all images at once.
Between matching and accumulating, only a few bytes per detection are kept, so a hundred thousand images or a thousand
classes fit into memory.
"""

from __future__ import annotations

import contextlib
import io
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from labeler.geometry.masks import Rle, mask_areas, mask_containment, rle_area
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.records import Instance

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
        self._classes: dict[int, _ClassDetections] = defaultdict(lambda: _ClassDetections(len(params.areaRng)))

    def add(self, index: int, image: GroundTruthImage, candidates: Sequence[Instance], scores: Sequence[float]) -> None:
        """Add an image.

        Args:
            index: the image's index in the ground truth. It decides the order of detections with equal scores.
            image: the ground truth.
            candidates: the detections, with class ids of the ground truth.
            scores: one per candidate, to rank them by.
        """
        ranked = sorted(range(len(candidates)), key=lambda position: -scores[position])
        ranked = ranked[: self._image_limit]
        detections: dict[int, list[int]] = defaultdict(list)
        for position in ranked:
            detections[candidates[position].class_id].append(position)
        objects: dict[int, list[GroundTruthInstance]] = defaultdict(list)
        maskless: dict[int, list[Rle]] = defaultdict(list)
        for instance in image.instances:
            if instance.box_only and self._kind == "segm":
                maskless[instance.class_id].append(instance.rle)
            else:
                objects[instance.class_id].append(instance)
        limit = self._evaluation.params.maxDets[-1]
        for class_id in {**objects, **detections}:
            if image.looked_for(class_id):
                kept = self._classes[class_id]
                positions = detections[class_id][:limit]
                found = [candidates[position] for position in positions]
                unjudged = np.full(len(found), class_id in image.not_exhaustive)
                if found and maskless[class_id]:
                    inside = mask_containment([each.rle for each in found], maskless[class_id])
                    unjudged |= inside.max(axis=1) >= INSIDE_BOX
                kept.add(index, [scores[position] for position in positions])
                self._add_class(kept, objects[class_id], found, unjudged)

    def _add_class(
        self,
        kept: _ClassDetections,
        objects: list[GroundTruthInstance],
        found: list[Instance],
        unjudged: NDArray[np.bool_],
    ) -> None:
        """Add one class of an image; ``unjudged``, (n,), tells which detections are not wrong if unmatched."""
        areas = np.array([rle_area(each.rle) if each.area is None else each.area for each in objects], np.float64)
        crowd = np.array([each.crowd for each in objects], np.bool_)
        uncounted = crowd | self._outside(areas)
        for area, count in enumerate((~uncounted).sum(axis=1).tolist()):
            kept.objects[area] += count
        if not found:
            return
        if self._kind == "segm":
            shapes: Any = [each.rle for each in found]
            true_shapes: Any = [each.rle for each in objects]
            outside = self._outside(mask_areas(shapes))
        else:
            shapes, true_shapes = (
                _boxes_xywh(each.box_xyxy for each in found),
                _boxes_xywh(each.box for each in objects),
            )
            outside = self._outside(shapes[:, 2] * shapes[:, 3])
        ious = coco_mask.iou(shapes, true_shapes, crowd.astype(np.uint8)) if objects else np.zeros((len(found), 0))
        matched, ignored = match_detections(ious, self._evaluation.params.iouThrs, uncounted, crowd)
        ignored |= ~matched & (outside | unjudged)[:, :, None]
        for bits, columns in ((matched @ self._bits, kept.matched), (ignored @ self._bits, kept.ignored)):
            for row, column in zip(bits.astype(np.uint16), columns, strict=True):
                column.frombytes(row.tobytes())

    def _outside(self, areas: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of n areas lie outside each range of object areas, bool ``(ranges, n)``."""
        outside: NDArray[np.bool_] = (areas < self._lowest) | (areas > self._highest)
        return outside

    def per_class(self, class_count: int) -> list[CocoMetrics]:
        """The metrics of each class, by class id; ``CocoMetrics.mean`` of them gives the published figures."""
        return [
            self._metrics(self._classes[class_id]) if class_id in self._classes else CocoMetrics()
            for class_id in range(class_count)
        ]

    def _metrics(self, kept: _ClassDetections) -> CocoMetrics:
        limits = self._evaluation.params.maxDets
        precision, recall = self._accumulated(kept, limits[-1])
        few = [self._accumulated(kept, limit, areas=1)[1][:, 0] for limit in limits[:-1]]
        means = [precision[:, :, 0], precision[0, :, 0], precision[5, :, 0]]
        means += [precision[:, :, area] for area in (1, 2, 3)]
        means += [*few, *(recall[:, area] for area in range(4))]
        return CocoMetrics(*(float(np.mean(each)) if each.min() > -1 else None for each in means))

    def _accumulated(
        self, kept: _ClassDetections, limit: int, areas: int = 4
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision ``(IoU, recall, area)`` and recall ``(IoU, area)`` with at most ``limit`` detections per image.

        Args:
            areas: how many of the ranges of object areas; the first is that of all areas.
        """
        scores, ranks, images = map(np.array, (kept.scores, kept.ranks, kept.images))
        order = np.argsort(images, kind="stable")
        order = order[ranks[order] < limit]
        evaluation = COCOeval(iouType=self._kind)
        params = evaluation.params
        params.areaRng = params.areaRng[:areas]
        params.imgIds, params.catIds, params.maxDets = [0], [0], [max(len(order), 1)]
        evaluation._paramsEval = params
        evaluation.evalImgs = [
            {
                "dtScores": scores[order],
                "dtMatches": (np.array(kept.matched[area])[order] & self._bits[:, None]) > 0,
                "dtIgnore": (np.array(kept.ignored[area])[order] & self._bits[:, None]) > 0,
                "gtIgnore": np.zeros(kept.objects[area]),
            }
            for area in range(areas)
        ]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
            evaluation.accumulate()
        return evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]


class _ClassDetections:
    """The detections of one class: image index, rank within the image and score of each.

    ``matched`` and ``ignored`` have one bit per IoU threshold, and one array per range of object areas, as ``objects``
    has one count.
    """

    def __init__(self, areas: int) -> None:
        self.images, self.ranks, self.scores = array("I"), array("H"), array("d")
        self.matched = [array("H") for _ in range(areas)]
        self.ignored = [array("H") for _ in range(areas)]
        self.objects = [0] * areas

    def add(self, index: int, scores: Sequence[float]) -> None:
        self.images.extend([index] * len(scores))
        self.ranks.extend(range(len(scores)))
        self.scores.extend(scores)


def match_detections(
    ious: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    uncounted: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The matching of ``COCOeval.evaluateImg`` for all IoU thresholds and ranges of object areas at once.

    Each detection in turn takes, of the objects that reach the threshold and are not taken yet, the counted one with
    the highest IoU, or else the uncounted one; the last one of equals. Crowds can be taken many times.

    Args:
        ious: (detections, objects), the best score first.
        thresholds: (thresholds,), ascending.
        uncounted: (ranges, objects), which objects do not count in a range.
        crowd: (objects,).

    Returns:
        Which detections match an object, and which of them an uncounted one; bool (ranges, detections, thresholds).
    """
    count, objects = ious.shape
    thresholds = np.minimum(thresholds, 1 - 1e-10)
    matched = np.zeros((len(uncounted), count, len(thresholds)), dtype=np.bool_)
    ignored = matched.copy()
    free = np.ones((len(uncounted), len(thresholds), objects), dtype=np.bool_)
    for detection in np.flatnonzero(ious.max(axis=1, initial=0.0) >= thresholds[0]).tolist():
        overlap = ious[detection]
        possible = free & (overlap >= thresholds[:, None])
        counted = possible & ~uncounted[:, None]
        possible &= counted | ~counted.any(axis=2, keepdims=True)
        # The last of equals is the first from behind.
        best = objects - 1 - np.where(possible, overlap, -1.0)[:, :, ::-1].argmax(axis=2)
        hit = possible.any(axis=2)
        matched[:, detection] = hit
        ignored[:, detection] = hit & np.take_along_axis(uncounted, best, axis=1)
        ranges, levels = hit.nonzero()
        taken = best[ranges, levels]
        free[ranges, levels, taken] = crowd[taken]
    return matched, ignored


def _boxes_xywh(boxes_xyxy: Iterable[tuple[float, float, float, float]]) -> NDArray[np.float64]:
    boxes = np.array(list(boxes_xyxy), dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes
