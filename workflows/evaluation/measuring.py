"""Measures the images of one shard against ground truth, in any process."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labeler.decisions import Decision
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.metrics.measure_config import MeasureConfig
from labeler.metrics.measures import ImageMeasures
from labeler.records import Instance
from workflows.dataset.judging import Judged, Rules, judged
from workflows.run.shard_records import ShardRecords

WORST = 12
TruthOf = Mapping[str, tuple[int, GroundTruthImage]]
"""The image of the ground truth that an image id is paired with, behind its index there."""


@dataclass(frozen=True)
class Comparison:
    """How images are compared.

    Attributes:
        rules: of the dataset.
        class_ids: for each labeled class, the class id in the ground truth, or None.
        class_names: those of the ground truth.
        measured: the class ids of the ground truth to measure.
    """

    rules: Rules
    class_ids: Sequence[int | None]
    class_names: Sequence[str]
    measured: Sequence[int]
    measures: MeasureConfig


@dataclass(frozen=True)
class WorstImage:
    """One of the images with the lowest scores, and what to draw on it.

    Attributes:
        accepted: the accepted instances, with class ids of the ground truth.
        true: the objects of the ground truth.
    """

    image_id: str
    digest: str
    measures: ImageMeasures
    accepted: tuple[Instance, ...]
    true: tuple[GroundTruthInstance, ...]


class MeasuredImages:
    """What was found of some images, in the order of their records.

    Attributes:
        images: the number of images compared.
        unpaired: ids of images that are paired with none of the ground truth.
        other_size, failed, decided, scores: see ``Evaluation``.
    """

    def __init__(self, how: Comparison) -> None:
        self.measures = MeasureAccumulator(how.class_names, how.measures, how.measured)
        self.unpaired: list[str] = []
        self.other_size: list[str] = []
        self.failed: list[str] = []
        self.images = self.decided = 0
        self.scores = array("f")
        self.worst = WorstImages()

    def include(self, later: MeasuredImages) -> None:
        """Add images that come after these."""
        self.measures.include(later.measures)
        self.unpaired += later.unpaired
        self.other_size += later.other_size
        self.failed += later.failed
        self.images += later.images
        self.decided += later.decided
        self.scores.extend(later.scores)
        self.worst.include(later.worst)


def measure_shard(
    how: Comparison, source: ShardRecords, decisions: Mapping[str, Sequence[Decision]], truth: TruthOf
) -> MeasuredImages:
    """Compare the images of a shard.

    Args:
        decisions: people's decisions, by image id.
        truth: of the images of this shard, at least.
    """
    found, measured = MeasuredImages(how), set(how.measured)
    for each in judged(source, how.rules, decisions):
        record = each.decided.record
        if record.image_id not in truth:
            found.unpaired.append(record.image_id)
            continue
        index, image = truth[record.image_id]
        if record.status == "error":
            found.failed.append(record.image_id)
        elif (record.width, record.height) != (image.width, image.height):
            found.other_size.append(record.image_id)
            continue
        candidates, accepted = _candidates(each, how.class_ids)
        found.decided += sum(judgement.by_hand for judgement in each.judgements)
        measures = found.measures.add(index, image, candidates, accepted)
        found.images += 1
        if measures.score is not None:
            found.scores.append(measures.score)
            kept = tuple(each for each, is_accepted in zip(candidates, accepted, strict=True) if is_accepted)
            true = tuple(each for each in image.instances if each.class_id in measured)
            found.worst.add(WorstImage(record.image_id, record.digest, measures, kept, true))
    return found


def _candidates(image: Judged, class_ids: Sequence[int | None]) -> tuple[list[Instance], list[bool]]:
    """The image's candidates with class ids of the ground truth, and whether each counts as accepted.

    Candidates of classes that are not in the ground truth, and those that a person rejected, are left out.
    """
    candidates: list[Instance] = []
    accepted: list[bool] = []
    chosen = set(image.chosen)
    for index, (instance, judgement) in enumerate(zip(image.decided.record.instances, image.judgements, strict=True)):
        class_id = class_ids[instance.class_id]
        if class_id is not None and not (judgement.by_hand and judgement.verdict == "reject"):
            candidates.append(replace(instance, class_id=class_id))
            accepted.append(index in chosen)
    return candidates, accepted


class WorstImages:
    """Keeps the ``WORST`` images with the lowest scores; of equal scores those with more errors, then earlier ones."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, WorstImage]] = []
        self._added = 0

    def add(self, image: WorstImage) -> None:
        """Add an image that has a score."""
        measures = image.measures
        assert measures.score is not None
        self._added += 1
        item = (-measures.score, measures.false_negatives + measures.false_positives, -self._added, image)
        if len(self._heap) < WORST:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def include(self, later: WorstImages) -> None:
        """Add images that come after these."""
        for item in sorted(later._heap, key=lambda item: -item[2]):
            self.add(item[-1])

    def sorted(self) -> list[WorstImage]:
        """The worst first."""
        return [item[-1] for item in sorted(self._heap, key=lambda item: item[:3], reverse=True)]
