"""Measures labels against ground truth, one image at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from labeler.geometry.masks import Rle, mask_iou
from labeler.ground_truth import UNMATCHED, GroundTruthImage, GroundTruthInstance, match_iou, match_masks
from labeler.metrics.coco import CocoAccumulator, CocoMetrics
from labeler.metrics.iou import boundary_ious, semantic_overlap, tolerant_iou
from labeler.metrics.measure_config import MeasureConfig
from labeler.metrics.measures import ClassMeasures, DatasetMeasures, ImageMeasures, Overlap
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
        rank = partial(ranking_score, score=self._config.rank_by)
        scores = [rank(each) for each in candidates]
        image = replace(image, instances=tuple(each for each in image.instances if each.class_id in self._measured))
        self._mask.add(index, image, candidates, scores)
        self._box.add(index, image, candidates, scores)
        self._add_single(image, candidates)

        true: dict[int, list[GroundTruthInstance]] = defaultdict(list)
        for instance in image.instances:
            true[instance.class_id].append(instance)
        predicted: dict[int, list[Rle]] = defaultdict(list)
        for position in sorted(range(len(candidates)), key=lambda position: -scores[position]):
            if accepted[position]:
                predicted[candidates[position].class_id].append(candidates[position].rle)
        counts = _Counts()
        pairs: list[tuple[_OverlapSums, tuple[Rle, Rle]]] = []
        for class_id in {**true, **predicted}:
            if image.looked_for(class_id):
                sums = self._classes[class_id]
                is_exhaustive = class_id not in image.not_exhaustive
                added, matched = sums.add(predicted[class_id], true[class_id], is_exhaustive, self._config)
                counts += added
                pairs += ((sums.overlap, pair) for pair in matched)
        for (overlap, _), iou in zip(pairs, boundary_ious([pair for _, pair in pairs]), strict=True):
            overlap.boundary_iou += iou
        weight = counts.matched + (counts.false_negatives + counts.false_positives) / 2
        return ImageMeasures(
            counts.matched,
            counts.false_negatives,
            counts.false_positives,
            counts.iou_sum / weight if weight else None,
        )

    def _add_single(self, image: GroundTruthImage, candidates: Sequence[Instance]) -> None:
        objects = [each for each in image.instances if not each.crowd]
        if len(objects) > 1:
            self._single = None
        if self._single is None or not objects or objects[0].box_only:
            return
        candidates = [each for each in candidates if each.class_id == objects[0].class_id]
        for rule, sums in self._single.items():
            picked = pick(candidates, rule)
            if picked is not None:
                sums.add(picked.rle, objects[0].rle, self._config)
                sums.boundary_iou += boundary_ious([(picked.rle, objects[0].rle)])[0]
            elif not candidates:
                sums.pairs += 1

    def result(self) -> DatasetMeasures:
        """The measures of all images that were added."""
        count = len(self._names)
        mask, box = self._mask.per_class(count), self._box.per_class(count)
        tolerant = self._config.band_width > 0
        all_classes = _ClassSums()
        classes = []
        for class_id in sorted(self._measured):
            sums = self._classes[class_id]
            all_classes.include(sums)
            semantic = sums.intersection / sums.union if sums.union else None
            classes.append(sums.measures(self._names[class_id], semantic, mask[class_id], box[class_id], tolerant))
        semantic_ious = [each.semantic_iou for each in classes if each.semantic_iou is not None]
        total = all_classes.measures(
            "all",
            fmean(semantic_ious) if semantic_ious else None,
            CocoMetrics.mean(each.mask for each in classes),
            CocoMetrics.mean(each.box for each in classes),
            tolerant,
        )
        single = {rule: sums.means(tolerant) for rule, sums in (self._single or {}).items() if sums.pairs}
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


class _OverlapSums:
    def __init__(self) -> None:
        self.pairs = 0
        self.iou = self.boundary_iou = self.tolerant_iou = 0.0

    def add(self, predicted: Rle, true: Rle, config: MeasureConfig) -> float:
        """Add a pair, without the IoU of its boundaries; returns its IoU."""
        iou = float(mask_iou([predicted], [true])[0, 0])
        self.pairs += 1
        self.iou += iou
        if config.band_width:
            self.tolerant_iou += tolerant_iou(predicted, true, config.band_width, config.band_weight)
        return iou

    def include(self, other: _OverlapSums) -> None:
        self.pairs += other.pairs
        self.iou += other.iou
        self.boundary_iou += other.boundary_iou
        self.tolerant_iou += other.tolerant_iou

    def means(self, tolerant: bool) -> Overlap:
        if not self.pairs:
            return Overlap()
        return Overlap(
            self.pairs,
            self.iou / self.pairs,
            self.boundary_iou / self.pairs,
            self.tolerant_iou / self.pairs if tolerant else None,
        )


class _ClassSums:
    def __init__(self) -> None:
        self.objects = self.matched = self.false_positives = 0
        self.overlap = _OverlapSums()  # over the matched pairs of masks
        self.intersection = self.union = 0  # pixels, see semantic_overlap

    def add(
        self, predicted: Sequence[Rle], true: Sequence[GroundTruthInstance], is_exhaustive: bool, config: MeasureConfig
    ) -> tuple[_Counts, list[tuple[Rle, Rle]]]:
        """Add the masks of one image; returns their counts, and the pairs whose boundaries are still to be compared."""
        intersection, union = semantic_overlap(predicted, true)
        self.intersection += intersection
        self.union += union
        matches = match_masks(predicted, true, config.iou).tolist()
        pairs = [(rle, true[index]) for rle, index in zip(predicted, matches, strict=True) if index >= 0]
        objects = sum(not each.crowd for each in true)
        false_positives = matches.count(UNMATCHED) if is_exhaustive else 0
        self.objects += objects
        self.matched += len(pairs)
        self.false_positives += false_positives
        iou_sum = sum(
            float(match_iou([rle], [each])[0, 0]) if each.box_only else self.overlap.add(rle, each.rle, config)
            for rle, each in pairs
        )
        compared = [(rle, each.rle) for rle, each in pairs if not each.box_only]
        return _Counts(len(pairs), objects - len(pairs), false_positives, iou_sum), compared

    def include(self, other: _ClassSums) -> None:
        self.objects += other.objects
        self.matched += other.matched
        self.false_positives += other.false_positives
        self.overlap.include(other.overlap)

    def measures(
        self, name: str, semantic: float | None, mask: CocoMetrics, box: CocoMetrics, tolerant: bool
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
            overlap=self.overlap.means(tolerant),
            semantic_iou=semantic,
            mask=mask,
            box=box,
        )
