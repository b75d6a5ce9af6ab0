"""Precision and recall of candidates, for ``closed_loop.py``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labeler.geometry.masks import mask_iou
from labeler.ground_truth import GroundTruthImage
from labeler.records import Instance

IOU = 0.5  # of the masks of a match


@dataclass(frozen=True)
class Curve:
    """Precision and recall over all thresholds, the highest first; float64 (candidates,)."""

    precision: np.ndarray[Any, np.dtype[np.float64]]
    recall: np.ndarray[Any, np.dtype[np.float64]]

    def of_all(self) -> tuple[float, float]:
        """Precision and recall of all candidates."""
        return (float(self.precision[-1]), float(self.recall[-1])) if len(self.recall) else (1.0, 0.0)

    def at_precision(self, precision: float) -> float:
        """The highest recall with at least that precision; 0 if there is none."""
        good = self.recall[self.precision >= precision]
        return float(good.max()) if len(good) else 0.0


def curve(pairs: Iterable[tuple[GroundTruthImage, Sequence[Instance]]]) -> Curve:
    """The curve of all candidates."""
    found: list[tuple[float, bool]] = []
    objects = 0
    for image, candidates in pairs:
        objects += len(image.instances)
        ranked = sorted(candidates, key=lambda each: -each.joint_score)
        found += [(each.joint_score, right) for each, right in zip(ranked, matches(image, ranked), strict=True)]
    found.sort(key=lambda pair: -pair[0])
    right = np.cumsum([is_match for _, is_match in found])
    return Curve(right / np.arange(1, len(found) + 1), right / max(objects, 1))


def matches(image: GroundTruthImage, ranked: Sequence[Instance]) -> list[bool]:
    """Whether each candidate, the best score first, is a match of a free object of its class."""
    free = list(image.instances)
    found = []
    for each in ranked:
        alike = [other for other in free if other.class_id == each.class_id]
        ious = mask_iou([each.rle], [other.rle for other in alike])[0] if alike else np.zeros(0)
        found.append(bool(len(ious) and ious.max() >= IOU))
        if found[-1]:
            free.remove(alike[int(ious.argmax())])
    return found
