"""Images of rectangles with ground truth, and candidates that are good, double, of a wrong class, or of nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from labeler.geometry.masks import mask_to_rle, rle_area
from labeler.ground_truth import IGNORED, UNMATCHED, GroundTruthImage, GroundTruthInstance, match_masks
from labeler.metrics.thresholds import Counts
from labeler.quality import judge, ranking_score
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

HEIGHT, WIDTH = 48, 64
Pair = tuple[ImageRecord, GroundTruthImage]


def rectangle(x: int, y: int, w: int, h: int) -> Any:
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[max(y, 0) : y + h, max(x, 0) : x + w] = True
    return mask_to_rle(mask)


def random_pairs(seed: int, images: int, classes: int = 3, crowds: bool = True) -> list[Pair]:
    """Scores say something, but not all, of which candidates are right, and differently so for each class."""
    random = np.random.default_rng(seed)
    pairs = []
    for number in range(images):
        true, candidates = [], []
        for _ in range(random.integers(0, 5)):
            class_id = int(random.integers(classes))
            x, y, w, h = (int(random.integers(*span)) for span in ((0, 44), (0, 30), (8, 20), (8, 18)))
            crowd = crowds and bool(random.random() < 0.15)
            true.append(GroundTruthInstance(class_id, rectangle(x, y, w, h), crowd))
            for copy in range(random.integers(0, 4)):
                dx, dy = random.integers(-2, 3, 2).tolist()
                wrong = random.random() < 0.15
                level = 0.3 + 0.15 * class_id - 0.1 * copy
                candidates.append(
                    _instance(random, (class_id + wrong) % classes, (x + dx, y + dy, w, h), level + 0.3 * (not wrong))
                )
        for _ in range(random.integers(0, 4)):
            x, y, w, h = (int(random.integers(*span)) for span in ((0, 44), (0, 30), (6, 20), (6, 18)))
            class_id = int(random.integers(classes))
            candidates.append(_instance(random, class_id, (x, y, w, h), 0.25 + 0.15 * class_id))
        name = f"{number:03d}.png"
        pairs.append(
            (
                ImageRecord(name, WIDTH, HEIGHT, "d", instances=tuple(candidates)),
                GroundTruthImage(name, WIDTH, HEIGHT, tuple(true)),
            )
        )
    return pairs


def _instance(random: np.random.Generator, class_id: int, box: tuple[int, int, int, int], level: float) -> Instance:
    rle = rectangle(*box)
    # Few distinct scores, so that there are ties; float32, as records hold them.
    score = float(np.float32(np.clip(np.round(random.normal(level, 0.12), 2), 0.05, 1)))
    mask_score = float(np.float32(np.clip(np.round(random.normal(0.6 + level / 3, 0.1), 1), 0.2, 1)))
    stability = float(np.float32(np.clip(np.round(random.normal(0.7 + level / 4, 0.1), 2), 0.2, 1)))
    x, y, w, h = box
    area = rle_area(rle)
    return Instance(
        class_id, "p", (float(x), float(y), float(x + w), float(y + h)), score, mask_score, stability, area, rle
    )


def counts_of_the_gate(pairs: list[Pair], quality: QualityConfig, classes: list[ClassSpec]) -> list[Counts]:
    """By class, what ``judge`` accepts, matched by ``match_masks``: an independent source of every figure."""
    counts = np.zeros((len(classes), 3), dtype=int)
    for record, truth in pairs:
        judged = zip(record.instances, judge(record, quality, classes), strict=True)
        accepted = [item for item, judgement in judged if judgement.verdict == "accept"]
        accepted.sort(key=lambda item: -ranking_score(item, quality.score))
        for class_id in range(len(classes)):
            true = [each for each in truth.instances if each.class_id == class_id]
            matches = match_masks([item.rle for item in accepted if item.class_id == class_id], true)
            false_positives = int((matches == UNMATCHED).sum())
            true_positives = len(matches) - false_positives - int((matches == IGNORED).sum())
            objects = sum(not each.crowd for each in true)
            counts[class_id] += (true_positives, true_positives + false_positives, objects)
    return [Counts(*row) for row in counts.tolist()]
