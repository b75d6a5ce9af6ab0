"""Candidates next to the ground truth, as columns: what every accept score accepts, and how much of it is correct.

The gate's filters, that of groups among them, do not depend on accept scores; it suppresses overlaps, and objects are
matched, from the best score down. So one pass of a gate that accepts all that it does not reject, and one matching,
give the outcome at every accept score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.ground_truth import UNMATCHED, GroundTruthImage, match_masks
from labeler.quality import ranking_score
from labeler.quality_config import Score
from labeler.records import Instance

MATCH_IOU = 0.5
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidates:
    """One row per candidate that is a true or a false positive if it is accepted.

    Candidates without a match that lie in a crowd, or whose class is not exhaustively labeled in their image, count as
    neither and are left out.

    Attributes:
        image, class_id: int64 (n,); images are numbered as they were added, class ids are those of the ground truth.
        score: float64 (n,), the score that the gate ranks by.
        correct: bool (n,), matches an object.
        objects: int64 (images, classes), the objects to find.
    """

    image: Ints
    class_id: Ints
    score: Floats
    correct: Bools
    objects: Ints

    def counts(self, accepted: Bools) -> Ints:
        """True positives, accepted instances and objects, int64 (3, images, classes)."""
        cells = self.image * self.objects.shape[1] + self.class_id
        chosen = (accepted & self.correct, accepted)
        positives = [np.bincount(cells[each], minlength=self.objects.size) for each in chosen]
        return np.stack([*(each.reshape(self.objects.shape) for each in positives), self.objects]).astype(np.int64)


class CandidateTable:
    """Collects ``Candidates`` image by image.

    Args:
        true_ids: the class in the ground truth of each labeled class, or None; several may be one class there.
        class_count: classes of the ground truth.
    """

    def __init__(self, true_ids: Sequence[int | None], class_count: int, score: Score) -> None:
        self._true_ids, self._class_count, self._score = true_ids, class_count, score
        self._rows: list[tuple[int, int, float, bool]] = []
        self._objects: list[Ints] = []

    def add(self, candidates: Iterable[Instance], truth: GroundTruthImage) -> None:
        wanted = [each for each in truth.instances if each.class_id in self._true_ids]
        single = [each.class_id for each in wanted if not each.crowd]
        self._objects.append(np.bincount(np.array(single, dtype=np.int64), minlength=self._class_count))
        by_class: dict[int, list[Instance]] = defaultdict(list)
        for item in sorted(candidates, key=lambda item: -ranking_score(item, self._score)):
            if (class_id := self._true_ids[item.class_id]) is not None:
                by_class[class_id].append(item)
        for class_id, items in by_class.items():
            objects = [each for each in wanted if each.class_id == class_id]
            exhaustive = class_id not in truth.not_exhaustive and truth.looked_for(class_id)
            for item, match in zip(items, match_masks([item.rle for item in items], objects, MATCH_IOU), strict=True):
                if match >= 0 or (match == UNMATCHED and exhaustive):
                    score = ranking_score(item, self._score)
                    self._rows.append((len(self._objects) - 1, class_id, score, bool(match >= 0)))

    def candidates(self) -> Candidates:
        columns = [np.array(column) for column in zip(*self._rows, strict=True)] or [np.zeros(0)] * 4
        image, class_id, score, correct = columns
        return Candidates(
            image.astype(np.int64), class_id.astype(np.int64), score, correct.astype(np.bool_), np.array(self._objects)
        )
