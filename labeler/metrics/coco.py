"""COCO's AP and AR (Lin et al. 2014, https://cocodataset.org/#detection-eval), and LVIS's, an image at a time.

pycocotools matches and accumulates; between the two only a few bytes a detection are kept, and nothing for the classes
that an image does not have, so that a hundred thousand images or a thousand classes fit into memory. The figures are
those of ``COCOeval`` over all images at once.
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

from labeler.geometry.masks import rle_area, rle_box_xyxy
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.records import Instance

COCO_LIMIT, LVIS_LIMIT = 100, 300  # detections: of an image and class, and of an image


@dataclass(frozen=True, slots=True)
class CocoMetrics:
    """In [0, 1]; None where there is no object to find, for which pycocotools says -1.

    Attributes:
        ap: average precision, the mean over IoU 0.50, 0.55, …, 0.95.
        ap50, ap75: at one IoU.
        ap_small, ap_medium, ap_large: of objects of an area up to 32², up to 96², and above, in pixels.
        ar1, ar10, ar: average recall with 1, 10 and 100 detections of an image and class (LVIS: 300 of an image).
        ar_small, ar_medium, ar_large: ``ar`` by area.
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
    def mean(cls, of_classes: Iterable[CocoMetrics]) -> CocoMetrics:
        """The mean of each figure over the classes that have it."""
        columns = list(zip(*map(astuple, of_classes), strict=True)) or [()] * len(fields(cls))
        return cls(*(fmean(known) if (known := [v for v in column if v is not None]) else None for column in columns))


class CocoAccumulator:
    """Takes images one after the other, in any order, and gives the figures of all of them.

    Where the truth says so, as that of LVIS does (Gupta et al. 2019), only classes that were looked for in an image
    count there, and of those that are not exhaustively labeled what meets no object is neither right nor wrong.

    Args:
        kind: ``segm`` compares masks, ``bbox`` the detector's boxes.
        image_limit: of an image only so many of the best detections count, all classes together, as LVIS has it (300);
            else, as COCO has it, 100 of each class.
    """

    def __init__(self, kind: Literal["segm", "bbox"], image_limit: int | None = None) -> None:
        self._image_limit = image_limit
        self._evaluation = COCOeval(iouType=kind)
        params = self._evaluation.params
        params.maxDets = [1, 10, image_limit or COCO_LIMIT]
        self._bits = 1 << np.arange(len(params.iouThrs), dtype=np.uint16)
        self._classes: dict[int, _ClassDetections] = defaultdict(lambda: _ClassDetections(len(params.areaRng)))

    def add(self, position: int, image: GroundTruthImage, found: Sequence[Instance], scores: Sequence[float]) -> None:
        """Count an image.

        Args:
            position: of the image in the truth; of two detections with one score, that of the earlier image goes first.
            found: class ids are those of the truth.
            scores: to rank ``found`` by.
        """
        ranked = sorted(range(len(found)), key=lambda index: -scores[index])
        ranked = ranked[: self._image_limit]
        detections: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for index in ranked:
            detections[found[index].class_id].append(self._detection(index + 1, found[index], scores[index]))
        objects: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for number, instance in enumerate(image.instances, start=1):
            objects[instance.class_id].append(_object(number, instance))
        for class_id in {**objects, **detections}:
            if image.looked_for(class_id):
                lenient = class_id in image.not_exhaustive
                self._add_class(position, class_id, objects[class_id], detections[class_id], lenient)

    def _detection(self, number: int, instance: Instance, score: float) -> dict[str, Any]:
        if self._evaluation.params.iouType == "segm":
            return {"id": number, "score": score, "segmentation": instance.rle, "area": rle_area(instance.rle)}
        x1, y1, x2, y2 = instance.box_xyxy
        return {"id": number, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}

    def _add_class(
        self,
        position: int,
        class_id: int,
        objects: list[dict[str, Any]],
        detections: list[dict[str, Any]],
        lenient: bool,
    ) -> None:
        evaluation, params = self._evaluation, self._evaluation.params
        limit = params.maxDets[-1]
        detections = detections[:limit]
        kept = self._classes[class_id]
        kept.add(position, [each["score"] for each in detections])
        evaluation._gts, evaluation._dts = {(0, 0): objects}, {(0, 0): detections}
        evaluation.ious = {(0, 0): evaluation.computeIoU(0, 0) if objects and detections else []}
        for area, (low, high) in enumerate(params.areaRng):
            if objects and detections:
                result = evaluation.evaluateImg(0, 0, (low, high), limit)
                matched, ignored = result["dtMatches"].T > 0, result["dtIgnore"].T
                kept.objects[area] += int(np.count_nonzero(result["gtIgnore"] == 0))
            else:  # nothing can match
                outside = [not low <= each["area"] <= high for each in detections]
                matched = np.zeros((len(detections), len(self._bits)), dtype=bool)
                ignored = np.repeat(np.array(outside, dtype=bool)[:, None], len(self._bits), axis=1)
                kept.objects[area] += sum(not each["ignore"] and low <= each["area"] <= high for each in objects)
            if lenient:
                ignored = ignored | ~matched
            kept.matched[area].frombytes((matched @ self._bits).astype(np.uint16).tobytes())
            kept.ignored[area].frombytes((ignored @ self._bits).astype(np.uint16).tobytes())

    def of_classes(self, class_count: int) -> list[CocoMetrics]:
        """The figures of each class; their mean is the benchmark's."""
        return [
            self._of_class(self._classes[class_id]) if class_id in self._classes else CocoMetrics()
            for class_id in range(class_count)
        ]

    def _of_class(self, kept: _ClassDetections) -> CocoMetrics:
        limits = self._evaluation.params.maxDets
        precision, recall = self._accumulated(kept, limits[-1])
        few = [self._accumulated(kept, limit)[1][:, 0] for limit in limits[:-1]]
        means = [precision[:, :, 0], precision[0, :, 0], precision[5, :, 0]]
        means += [precision[:, :, area] for area in (1, 2, 3)]
        means += [*few, *(recall[:, area] for area in range(4))]
        return CocoMetrics(*(float(np.mean(each)) if each.min() > -1 else None for each in means))

    def _accumulated(self, kept: _ClassDetections, limit: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision (IoU, recall, area) and recall (IoU, area) with ``limit`` detections an image."""
        scores, ranks, positions = map(np.array, (kept.scores, kept.ranks, kept.positions))
        order = np.argsort(positions, kind="stable")
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
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
            evaluation.accumulate()
        return evaluation.eval["precision"][:, :, 0, :, 0], evaluation.eval["recall"][:, 0, :, 0]


class _ClassDetections:
    """Of one class: for each detection image, score, rank in the image, and a bit an IoU for what became of it."""

    def __init__(self, areas: int) -> None:
        self.positions, self.ranks, self.scores = array("I"), array("H"), array("d")
        self.matched = [array("H") for _ in range(areas)]
        self.ignored = [array("H") for _ in range(areas)]
        self.objects = [0] * areas

    def add(self, position: int, scores: Sequence[float]) -> None:
        self.positions.extend([position] * len(scores))
        self.ranks.extend(range(len(scores)))
        self.scores.extend(scores)


def _object(number: int, instance: GroundTruthInstance) -> dict[str, Any]:
    x1, y1, x2, y2 = instance.box_xyxy or rle_box_xyxy(instance.rle)
    return {
        "id": number,
        "segmentation": instance.rle,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": rle_area(instance.rle) if instance.area is None else instance.area,
        "iscrowd": int(instance.crowd),
        "ignore": int(instance.crowd),
    }
