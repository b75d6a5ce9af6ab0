"""What a report counts and samples, one record at a time: memory grows with classes and samples, not with images."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Generic, TypeVar

import numpy as np

from labeler.quality import Judgement
from labeler.records import ImageRecord, Instance
from workflows.drawing.figures import Histogram
from workflows.drawing.thumbnails import Sample

SCORE_EDGES = tuple((np.arange(41) / 40).tolist())
SIDE_EDGES = tuple((2 ** (np.arange(4, 27) / 2)).tolist())  # pixels, half octaves from 4 to 8192
SHARE_EDGES = tuple((10 ** (np.arange(-20, 1) / 4)).tolist())  # of the image, four bins a decade from 1e-5 to 1
OBJECT_EDGES = tuple(float(count) for count in range(22))  # the last bin is 20 and more
NAMES_KEPT = 200

Item = TypeVar("Item")


class Reservoir(Generic[Item]):
    """The ``size`` items of the smallest keys; keys are digests, so this is a uniform sample, and always the same."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[int, int, Item]] = []  # greatest key first
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, key: int, item: Item) -> None:
        self._added += 1
        entry = (-key, -self._added, item)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def items(self) -> list[tuple[int, Item]]:
        """(key, item), smallest key first."""
        return [(-key, item) for key, _, item in sorted(self._heap, reverse=True, key=lambda entry: entry[:2])]

    def cut(self, size: int) -> None:
        self._heap = sorted(self._heap, reverse=True, key=lambda entry: entry[:2])[:size]
        heapq.heapify(self._heap)


class Sampler:
    """Instances of every class and verdict, as many of each as there are or ``each``, and ``total`` of all.

    Where that is too many, the largest strata give way first. Dropping the surplus on the way is exact: what has
    ``total`` items before it, by rank in its stratum and then by key, will have so many at the end too.
    """

    def __init__(self, each: int, total: int, seed: int) -> None:
        self._each, self._total, self._seed = each, total, seed
        self._strata: dict[tuple[int, str], Reservoir[Sample]] = {}
        self._held = 0

    def add(self, sample: Sample, index: int) -> None:
        """Consider the instance at position ``index`` of its record."""
        assert sample.instance is not None
        assert sample.judgement is not None
        stratum = self._strata.setdefault((sample.instance.class_id, sample.judgement.verdict), Reservoir(self._each))
        before = len(stratum)
        stratum.add(key_of(self._seed, sample.record, index), sample)
        self._held += len(stratum) - before
        if self._held > 2 * self._total:
            kept = Counter(stratum for _, _, stratum, _ in self._ranked()[: self._total])
            for name, reservoir in self._strata.items():
                reservoir.cut(kept[name])
            self._held = self._total

    def samples(self) -> list[Sample]:
        """Those to show; any beginning of the list is as fair a choice, of fewer."""
        return [sample for _, _, _, sample in self._ranked()[: self._total]]

    def _ranked(self) -> list[tuple[int, int, tuple[int, str], Sample]]:
        ranked = [
            (rank, key, stratum, sample)
            for stratum, reservoir in self._strata.items()
            for rank, (key, sample) in enumerate(reservoir.items())
        ]
        return sorted(ranked, key=lambda entry: entry[:3])


def key_of(seed: int, record: ImageRecord, index: int) -> int:
    """A number that looks random, and is the same for the same image content, name, position and seed."""
    text = f"{seed}\0{record.digest}\0{record.image_id}\0{index}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


@dataclass
class ClassTally:
    """Of one class: instances by verdict, images with an accepted one, and the sum of the accepted joint scores."""

    verdicts: Counter[str] = field(default_factory=Counter)
    images: int = 0
    joint_sum: float = 0.0


@dataclass
class Tally:
    """Everything that is counted.

    Attributes:
        images: labeled, by what came out: ``accepted``, ``none`` (no accepted object), ``failed``.
        reasons: of every verdict but a plain ``accept``, by (verdict, reason).
        failures: the first (image id, error).
        without: the first ids of images with no accepted object.
        scores: by field of ``Instance``.
        box_sides: square root of the area of the detector's box, pixels.
        mask_shares: area of the mask as a share of the image.
        objects: accepted objects an image, of images without failure.
    """

    images: Counter[str] = field(default_factory=Counter)
    classes: dict[int, ClassTally] = field(default_factory=lambda: defaultdict(ClassTally))
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    scores: dict[str, Histogram] = field(
        default_factory=lambda: {
            name: Histogram(SCORE_EDGES) for name in ("joint_score", "score", "mask_score", "stability")
        }
    )
    box_sides: Histogram = field(default_factory=lambda: Histogram(SIDE_EDGES))
    mask_shares: Histogram = field(default_factory=lambda: Histogram(SHARE_EDGES))
    objects: Histogram = field(default_factory=lambda: Histogram(OBJECT_EDGES))

    @property
    def verdicts(self) -> Counter[str]:
        return sum((each.verdicts for each in self.classes.values()), Counter())

    def add(self, record: ImageRecord, judgements: Sequence[Judgement]) -> None:
        if record.status == "error":
            self.images["failed"] += 1
            if len(self.failures) < NAMES_KEPT:
                self.failures.append((record.image_id, record.error))
            return
        accepted = {
            instance.class_id
            for instance, judgement in zip(record.instances, judgements, strict=True)
            if judgement.verdict == "accept"
        }
        for class_id in accepted:
            self.classes[class_id].images += 1
        self.images["accepted" if accepted else "none"] += 1
        if not accepted and len(self.without) < NAMES_KEPT:
            self.without.append(record.image_id)
        self.objects.add(sum(judgement.verdict == "accept" for judgement in judgements))
        for instance, judgement in zip(record.instances, judgements, strict=True):
            self._add_instance(record, instance, judgement)

    def _add_instance(self, record: ImageRecord, instance: Instance, judgement: Judgement) -> None:
        verdict, of_class = judgement.verdict, self.classes[instance.class_id]
        of_class.verdicts[verdict] += 1
        of_class.joint_sum += instance.joint_score if verdict == "accept" else 0.0
        if judgement.reason:
            self.reasons[verdict, judgement.reason] += 1
        for name, histogram in self.scores.items():
            histogram.add(getattr(instance, name), verdict)
        x1, y1, x2, y2 = instance.box_xyxy
        self.box_sides.add((max(x2 - x1, 0.0) * max(y2 - y1, 0.0)) ** 0.5, verdict)
        self.mask_shares.add(instance.area / (record.width * record.height), verdict)
