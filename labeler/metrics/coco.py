"""AP and AR of COCO (Lin et al. 2014, https://cocodataset.org/#detection-eval) and LVIS, one image at a time.

pycocotools matches and accumulates, and the results are those of ``COCOeval`` over all images at once. Between matching
and accumulating, only a few bytes per detection are kept, so a hundred thousand images or a thousand classes fit into
memory.
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
from pycocotools.cocoeval import COCOeval

from labeler.geometry.masks import Rle, mask_containment, rle_area
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
        self._evaluation = COCOeval(iouType=kind)
        params = self._evaluation.params
        params.maxDets = [1, 10, image_limit or COCO_LIMIT]
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
        detections: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for position in ranked:
            candidate = candidates[position]
            detections[candidate.class_id].append(self._detection(position + 1, candidate, scores[position]))
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        maskless: dict[int, list[Rle]] = defaultdict(list)
        for number, instance in enumerate(image.instances, start=1):
            if instance.box_only and self._evaluation.params.iouType == "segm":
                maskless[instance.class_id].append(instance.rle)
            else:
                objects[instance.class_id].append(_object(number, instance))
        for class_id in {**objects, **detections}:
            if image.looked_for(class_id):
                found = detections[class_id]
                unjudged = np.full(len(found), class_id in image.not_exhaustive)
                if found and maskless[class_id]:
                    inside = mask_containment([each["segmentation"] for each in found], maskless[class_id])
                    unjudged |= inside.max(axis=1) >= INSIDE_BOX
                self._add_class(index, class_id, objects[class_id], found, unjudged)

    def _detection(self, number: int, instance: Instance, score: float) -> dict[str, Any]:
        if self._evaluation.params.iouType == "segm":
            return {"id": number, "score": score, "segmentation": instance.rle, "area": rle_area(instance.rle)}
        x1, y1, x2, y2 = instance.box_xyxy
        return {"id": number, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}

    def _add_class(
        self,
        index: int,
        class_id: int,
        objects: list[dict[str, Any]],
        detections: list[dict[str, Any]],
        unjudged: NDArray[np.bool_],
    ) -> None:
        """Add one class of an image; ``unjudged``, (n,), tells which detections are not wrong if unmatched."""
        evaluation, params = self._evaluation, self._evaluation.params
        limit = params.maxDets[-1]
        detections = detections[:limit]
        kept = self._classes[class_id]
        kept.add(index, [each["score"] for each in detections])
        evaluation._gts, evaluation._dts = {(0, 0): objects}, {(0, 0): detections}
        evaluation.ious = {(0, 0): evaluation.computeIoU(0, 0) if objects and detections else []}
        for area, (low, high) in enumerate(params.areaRng):
            if objects and detections:
                result = evaluation.evaluateImg(0, 0, (low, high), limit)
                matched, ignored = result["dtMatches"].T > 0, result["dtIgnore"].T
                kept.objects[area] += int(np.count_nonzero(result["gtIgnore"] == 0))
            else:  # there is nothing to match
                outside = [not low <= each["area"] <= high for each in detections]
                matched = np.zeros((len(detections), len(self._bits)), dtype=bool)
                ignored = np.repeat(np.array(outside, dtype=bool)[:, None], len(self._bits), axis=1)
                kept.objects[area] += sum(not each["ignore"] and low <= each["area"] <= high for each in objects)
            ignored = ignored | (~matched & unjudged[:limit, None])
            kept.matched[area].frombytes((matched @ self._bits).astype(np.uint16).tobytes())
            kept.ignored[area].frombytes((ignored @ self._bits).astype(np.uint16).tobytes())

    def per_class(self, class_count: int) -> list[CocoMetrics]:
        """The metrics of each class, by class id; ``CocoMetrics.mean`` of them gives the published figures."""
        return [
            self._metrics(self._classes[class_id]) if class_id in self._classes else CocoMetrics()
            for class_id in range(class_count)
        ]

    def _metrics(self, kept: _ClassDetections) -> CocoMetrics:
        limits = self._evaluation.params.maxDets
        precision, recall = self._accumulated(kept, limits[-1])
        few = [self._accumulated(kept, limit)[1][:, 0] for limit in limits[:-1]]
        means = [precision[:, :, 0], precision[0, :, 0], precision[5, :, 0]]
        means += [precision[:, :, area] for area in (1, 2, 3)]
        means += [*few, *(recall[:, area] for area in range(4))]
        return CocoMetrics(*(float(np.mean(each)) if each.min() > -1 else None for each in means))

    def _accumulated(self, kept: _ClassDetections, limit: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision ``(IoU, recall, area)`` and recall ``(IoU, area)`` with at most ``limit`` detections per image."""
        scores, ranks, images = map(np.array, (kept.scores, kept.ranks, kept.images))
        order = np.argsort(images, kind="stable")
        order = order[ranks[order] < limit]
        evaluation = COCOeval(iouType=self._evaluation.params.iouType)
        params = evaluation.params
        params.imgIds, params.catIds, params.maxDets = [0], [0], [max(len(order), 1)]
        evaluation._paramsEval = params
        evaluation.evalImgs = [
            {
                "dtScores": scores[order],
                "dtMatches": (np.array(kept.matched[area])[order] & self._bits[:, None]) > 0,
                "dtIgnore": (np.array(kept.ignored[area])[order] & self._bits[:, None]) > 0,
                "gtIgnore": np.zeros(kept.objects[area]),
            }
            for area in range(len(params.areaRng))
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


def _object(number: int, instance: GroundTruthInstance) -> dict[str, Any]:
    x1, y1, x2, y2 = instance.box
    return {
        "id": number,
        "segmentation": instance.rle,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": rle_area(instance.rle) if instance.area is None else instance.area,
        "iscrowd": int(instance.crowd),
        "ignore": int(instance.crowd),
    }
