"""Measures labels against ground truth, one image at a time."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from statistics import fmean

from labeler.geometry.masks import Rle, mask_iou
from labeler.ground_truth import UNMATCHED, GroundTruthImage, GroundTruthInstance
from labeler.metrics.coco import CocoAccumulator, CocoMetrics
from labeler.metrics.iou import boundary_ious, semantic_overlap, tolerant_iou
from labeler.metrics.measure_config import MeasureConfig
from labeler.metrics.measures import ClassMeasures, DatasetMeasures, ImageMeasures, Overlap
from labeler.metrics.overlaps import ImageOverlaps
from labeler.metrics.single_object import RULES, Rule, pick
from labeler.quality import ranking_score
from labeler.records import Instance


class MeasureAccumulator:
    """Adds up measures image by image, in any order.

    Args:
        class_names: the classes of the ground truth, by class id.
        classes: the class ids to measure; None for all.
    """

    def __init__(
        self, class_names: Sequence[str], config: MeasureConfig | None = None, classes: Sequence[int] | None = None
    ) -> None:
        self._names = class_names
        self._config = config or MeasureConfig()
        self._measured = frozenset(range(len(class_names)) if classes is None else classes)
        self._mask = CocoAccumulator("segm", self._config.image_limit)
        self._box = CocoAccumulator("bbox", self._config.image_limit)
        self._classes: dict[int, _ClassSums] = defaultdict(_ClassSums)
        self._single: dict[Rule, _OverlapSums] | None = {rule: _OverlapSums() for rule in RULES}

    def add(
        self, index: int, image: GroundTruthImage, candidates: Sequence[Instance], accepted: Sequence[bool]
    ) -> ImageMeasures:
        """Add an image.

        Args:
            index: the image's index in the ground truth.
            image: the ground truth; its masks have the size of those of ``candidates``.
            candidates: all candidates, with class ids of the ground truth.
            accepted: for each candidate, whether the gate accepted it.
        """
        scores = [ranking_score(each, self._config.rank_by) for each in candidates]
        image = replace(image, instances=tuple(each for each in image.instances if each.class_id in self._measured))
        overlaps = ImageOverlaps(candidates, image.instances)
        self._mask.add(index, image, candidates, scores, overlaps)
        self._box.add(index, image, candidates, scores, overlaps)
        self._add_single(image, candidates)

        ranked = [n for n in sorted(range(len(candidates)), key=lambda n: -scores[n]) if accepted[n]]
        matches = dict(zip(ranked, overlaps.match(ranked, self._config.iou).tolist(), strict=True))
        true: dict[int, list[GroundTruthInstance]] = defaultdict(list)
        for instance in image.instances:
            true[instance.class_id].append(instance)
        predicted: dict[int, list[int]] = defaultdict(list)
        for position in ranked:
            predicted[candidates[position].class_id].append(position)
        counts = _Counts()
        pairs: list[tuple[_OverlapSums, tuple[Rle, Rle]]] = []
        for class_id in {**true, **predicted}:
            if not image.looked_for(class_id):
                continue
            sums, positions = self._classes[class_id], predicted[class_id]
            rles = [candidates[position].rle for position in positions]
            sums.add_pixels(*semantic_overlap(rles, true[class_id]))
            is_exhaustive = class_id not in image.not_exhaustive
            counts += sums.add_counts([matches[position] for position in positions], true[class_id], is_exhaustive)
            ious = []
            for position, rle in zip(positions, rles, strict=True):
                if (matched := matches[position]) >= 0:
                    iou = float(overlaps.for_matching[position, matched])
                    ious.append(iou)
                    if not (object_ := image.instances[matched]).box_only:
                        sums.overlap.add(rle, object_.rle, iou, self._config)
                        pairs.append((sums.overlap, (rle, object_.rle)))
            counts += _Counts(iou_sum=sum(ious))
        for (overlap, _), iou in zip(pairs, boundary_ious([pair for _, pair in pairs]), strict=True):
            overlap.boundary_ious.append(iou)
        weight = counts.matched + (counts.false_negatives + counts.false_positives) / 2
        return ImageMeasures(
            counts.matched,
            counts.false_negatives,
            counts.false_positives,
            counts.iou_sum / weight if weight else None,
        )

    def include(self, other: MeasureAccumulator) -> None:
        """Add the images of another accumulator that was made with the same arguments."""
        self._mask.include(other._mask)
        self._box.include(other._box)
        for class_id, sums in other._classes.items():
            self._classes[class_id].include(sums)
        if self._single is not None and other._single is not None:
            for rule, overlap in other._single.items():
                self._single[rule].include(overlap)
        else:
            self._single = None

    def _add_single(self, image: GroundTruthImage, candidates: Sequence[Instance]) -> None:
        objects = [each for each in image.instances if not each.crowd]
        if len(objects) > 1:
            self._single = None
        if self._single is None or not objects or objects[0].box_only:
            return
        candidates = [each for each in candidates if each.class_id == objects[0].class_id]
        true = objects[0].rle
        for rule, sums in self._single.items():
            picked = pick(candidates, rule)
            if picked is not None:
                sums.add(picked.rle, true, float(mask_iou([picked.rle], [true])[0, 0]), self._config)
                sums.boundary_ious.append(boundary_ious([(picked.rle, true)])[0])
            elif not candidates:
                sums.add_nothing()

    def result(self) -> DatasetMeasures:
        """The measures of all images that were added."""
        count = len(self._names)
        mask, box = self._mask.per_class(count), self._box.per_class(count)
        tolerant = self._config.band_width > 0
        all_classes, all_overlaps = _ClassSums(), _OverlapTotal()
        classes = []
        for class_id in sorted(self._measured):
            sums = self._classes[class_id]
            all_classes.include_counts(sums)
            overlap = sums.overlap.total()
            all_overlaps += overlap
            semantic = sums.intersection / sums.union if sums.union else None
            name, overlaps = self._names[class_id], overlap.means(tolerant)
            classes.append(sums.measures(name, overlaps, semantic, mask[class_id], box[class_id]))
        semantic_ious = [each.semantic_iou for each in classes if each.semantic_iou is not None]
        total = all_classes.measures(
            "all",
            all_overlaps.means(tolerant),
            fmean(semantic_ious) if semantic_ious else None,
            CocoMetrics.mean(each.mask for each in classes),
            CocoMetrics.mean(each.box for each in classes),
        )
        single = {rule: sums.total().means(tolerant) for rule, sums in (self._single or {}).items() if sums.ious}
        return DatasetMeasures(tuple(classes), total, single)


@dataclass(frozen=True, slots=True)
class _Counts:
    matched: int = 0
    false_negatives: int = 0
    false_positives: int = 0
    iou_sum: float = 0.0  # over the matched pairs

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(
            self.matched + other.matched,
            self.false_negatives + other.false_negatives,
            self.false_positives + other.false_positives,
            self.iou_sum + other.iou_sum,
        )


@dataclass(frozen=True, slots=True)
class _OverlapTotal:
    pairs: int = 0
    iou: float = 0.0
    boundary_iou: float = 0.0
    tolerant_iou: float = 0.0

    def __add__(self, other: _OverlapTotal) -> _OverlapTotal:
        return _OverlapTotal(
            self.pairs + other.pairs,
            self.iou + other.iou,
            self.boundary_iou + other.boundary_iou,
            self.tolerant_iou + other.tolerant_iou,
        )

    def means(self, tolerant: bool) -> Overlap:
        if not self.pairs:
            return Overlap()
        return Overlap(
            self.pairs,
            self.iou / self.pairs,
            self.boundary_iou / self.pairs,
            self.tolerant_iou / self.pairs if tolerant else None,
        )


class _OverlapSums:
    """The terms of sums, a value for each pair: their order decides the last digits of a sum."""

    def __init__(self) -> None:
        self.ious, self.boundary_ious, self.tolerant_ious = array("d"), array("d"), array("d")

    def add(self, predicted: Rle, true: Rle, iou: float, config: MeasureConfig) -> None:
        """Add a pair, without the IoU of its boundaries."""
        self.ious.append(iou)
        if config.band_width:
            self.tolerant_ious.append(tolerant_iou(predicted, true, config.band_width, config.band_weight))

    def add_nothing(self) -> None:
        """Add an object that nothing overlaps."""
        self.ious.append(0.0)

    def include(self, other: _OverlapSums) -> None:
        self.ious.extend(other.ious)
        self.boundary_ious.extend(other.boundary_ious)
        self.tolerant_ious.extend(other.tolerant_ious)

    def total(self) -> _OverlapTotal:
        sums = (reduce(add, values, 0.0) for values in (self.ious, self.boundary_ious, self.tolerant_ious))
        return _OverlapTotal(len(self.ious), *sums)


class _ClassSums:
    def __init__(self) -> None:
        self.objects = self.matched = self.false_positives = 0
        self.overlap = _OverlapSums()  # over the matched pairs of masks
        self.intersection = self.union = 0  # pixels, see semantic_overlap

    def add_pixels(self, intersection: int, union: int) -> None:
        self.intersection += intersection
        self.union += union

    def add_counts(self, matches: Sequence[int], true: Sequence[GroundTruthInstance], is_exhaustive: bool) -> _Counts:
        """Add the matches of the accepted instances of one image, and return what they add."""
        objects = sum(not each.crowd for each in true)
        matched = sum(match >= 0 for match in matches)
        false_positives = list(matches).count(UNMATCHED) if is_exhaustive else 0
        self.objects += objects
        self.matched += matched
        self.false_positives += false_positives
        return _Counts(matched, objects - matched, false_positives)

    def include(self, other: _ClassSums) -> None:
        self.include_counts(other)
        self.add_pixels(other.intersection, other.union)
        self.overlap.include(other.overlap)

    def include_counts(self, other: _ClassSums) -> None:
        self.objects += other.objects
        self.matched += other.matched
        self.false_positives += other.false_positives

    def measures(
        self, name: str, overlap: Overlap, semantic: float | None, mask: CocoMetrics, box: CocoMetrics
    ) -> ClassMeasures:
        matched = self.matched
        accepted = matched + self.false_positives
        return ClassMeasures(
            name=name,
            objects=self.objects,
            accepted=accepted,
            matched=matched,
            false_negatives=self.objects - matched,
            false_positives=self.false_positives,
            precision=matched / accepted if accepted else None,
            recall=matched / self.objects if self.objects else None,
            f1=2 * matched / (accepted + self.objects) if accepted + self.objects else None,
            overlap=overlap,
            semantic_iou=semantic,
            mask=mask,
            box=box,
        )
