"""Everything that is measured of labels against the truth, an image at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from labeler.geometry.masks import Rle, mask_iou
from labeler.ground_truth import UNMATCHED, GroundTruthImage, GroundTruthInstance, match_masks
from labeler.metrics.coco import CocoAccumulator, CocoMetrics
from labeler.metrics.measure_config import MeasureConfig as MeasureConfig
from labeler.metrics.overlap import RULES, Rule, boundary_iou, pick, semantic_overlap, tolerant_iou
from labeler.quality import ranking_score
from labeler.records import Instance


@dataclass(frozen=True, slots=True)
class Overlap:
    """Means over pairs of masks; None without any."""

    pairs: int = 0
    iou: float | None = None
    boundary_iou: float | None = None
    tolerant_iou: float | None = None


@dataclass(frozen=True, slots=True)
class ClassMeasures:
    """Of one class, or of all.

    Attributes:
        objects: in truth, crowds aside.
        accepted: instances that the gate accepted, less those of which it is not known if they are right.
        matched, misses, extras: accepted instances that meet an object, objects that none meets, and instances that
            meet none.
        precision, recall, f1: matched / accepted, matched / objects, and their harmonic mean; None without any.
        overlap: of the matched pairs.
        semantic_iou: pixels of the class in both, by pixels in either; of all classes, the mean (mIoU).
        mask, box: COCO's figures over all candidates, of all classes the mean.
    """

    name: str
    objects: int
    accepted: int
    matched: int
    misses: int
    extras: int
    precision: float | None
    recall: float | None
    f1: float | None
    overlap: Overlap
    semantic_iou: float | None
    mask: CocoMetrics
    box: CocoMetrics


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """Of one image, at the gate's verdicts.

    Attributes:
        score: the sum of the matched pairs' IoU by matched + (misses + extras) / 2, which is the panoptic quality
            (Kirillov et al. 2019) of the one image; None where nothing is and nothing was accepted.
    """

    matched: int
    misses: int
    extras: int
    score: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """Of all images.

    Attributes:
        single: where no image has more than one object, what the candidate picked by each rule of
            ``overlap.pick`` shares with the object, over the images in which the rule picks one; no candidate
            at all counts 0. Else empty.
    """

    classes: tuple[ClassMeasures, ...]
    total: ClassMeasures
    single: dict[Rule, Overlap]


class Measures:
    """Takes images one after the other, in any order, and gives the figures of all of them.

    Args:
        class_names: of the truth, by class id.
        classes: ids of those that are measured; all if None.
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
        self, position: int, image: GroundTruthImage, found: Sequence[Instance], accepted: Sequence[bool]
    ) -> ImageMeasures:
        """Count an image.

        Args:
            position: of the image in the truth.
            image: masks are of the size of those of ``found``.
            found: all candidates; class ids are those of the truth.
            accepted: whether each passed the gate.
        """
        rank = partial(ranking_score, score=self._config.rank_by)
        scores = [rank(each) for each in found]
        image = replace(image, instances=tuple(each for each in image.instances if each.class_id in self._measured))
        self._mask.add(position, image, found, scores)
        self._box.add(position, image, found, scores)
        self._add_single(image, found)

        true: dict[int, list[GroundTruthInstance]] = defaultdict(list)
        for instance in image.instances:
            true[instance.class_id].append(instance)
        kept: dict[int, list[Rle]] = defaultdict(list)
        for index in sorted(range(len(found)), key=lambda index: -scores[index]):
            if accepted[index]:
                kept[found[index].class_id].append(found[index].rle)
        matched = misses = extras = 0
        quality = 0.0
        for class_id in {**true, **kept}:
            if image.looked_for(class_id):
                lenient = class_id in image.not_exhaustive
                sums = self._classes[class_id]
                hits, missed, extra, shared = sums.add(kept[class_id], true[class_id], lenient, self._config)
                matched, misses, extras, quality = matched + hits, misses + missed, extras + extra, quality + shared
        weight = matched + (misses + extras) / 2
        return ImageMeasures(matched, misses, extras, quality / weight if weight else None)

    def _add_single(self, image: GroundTruthImage, found: Sequence[Instance]) -> None:
        objects = [each for each in image.instances if not each.crowd]
        if len(objects) > 1:
            self._single = None
        if self._single is None or not objects:
            return
        candidates = [each for each in found if each.class_id == objects[0].class_id]
        for rule, sums in self._single.items():
            picked = pick(candidates, rule)
            if picked is not None:
                sums.add(picked.rle, objects[0].rle, self._config)
            elif not candidates:
                sums.pairs += 1

    def result(self) -> Measured:
        """The figures of all images so far."""
        count = len(self._names)
        mask, box = self._mask.of_classes(count), self._box.of_classes(count)
        tolerant = self._config.band_width > 0
        whole = _ClassSums()
        classes = []
        for class_id in sorted(self._measured):
            sums = self._classes[class_id]
            whole.include(sums)
            semantic = sums.shared / sums.covered if sums.covered else None
            classes.append(sums.measures(self._names[class_id], semantic, mask[class_id], box[class_id], tolerant))
        semantics = [each.semantic_iou for each in classes if each.semantic_iou is not None]
        total = whole.measures(
            "all",
            fmean(semantics) if semantics else None,
            CocoMetrics.mean(each.mask for each in classes),
            CocoMetrics.mean(each.box for each in classes),
            tolerant,
        )
        single = {rule: sums.means(tolerant) for rule, sums in (self._single or {}).items() if sums.pairs}
        return Measured(tuple(classes), total, single)


class _OverlapSums:
    def __init__(self) -> None:
        self.pairs = 0
        self.iou = self.boundary_iou = self.tolerant_iou = 0.0

    def add(self, found: Rle, true: Rle, config: MeasureConfig) -> float:
        """Count a pair; its IoU."""
        iou = float(mask_iou([found], [true])[0, 0])
        self.pairs += 1
        self.iou += iou
        self.boundary_iou += boundary_iou(found, true)
        if config.band_width:
            self.tolerant_iou += tolerant_iou(found, true, config.band_width, config.band_weight)
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
        self.objects = self.extras = 0
        self.overlap = _OverlapSums()  # one pair a match
        self.shared = self.covered = 0  # pixels, see semantic_overlap

    def add(
        self, found: Sequence[Rle], true: Sequence[GroundTruthInstance], lenient: bool, config: MeasureConfig
    ) -> tuple[int, int, int, float]:
        """Matched, misses, extras, and the sum of the IoU of the matched pairs."""
        both, either = semantic_overlap(found, true)
        self.shared += both
        self.covered += either
        places = match_masks(found, true, config.iou).tolist()
        pairs = [(rle, true[place].rle) for rle, place in zip(found, places, strict=True) if place >= 0]
        objects = sum(not each.crowd for each in true)
        extras = 0 if lenient else places.count(UNMATCHED)
        self.objects += objects
        self.extras += extras
        return len(pairs), objects - len(pairs), extras, sum(self.overlap.add(*pair, config) for pair in pairs)

    def include(self, other: _ClassSums) -> None:
        self.objects += other.objects
        self.extras += other.extras
        self.overlap.include(other.overlap)

    def measures(
        self, name: str, semantic: float | None, mask: CocoMetrics, box: CocoMetrics, tolerant: bool
    ) -> ClassMeasures:
        matched = self.overlap.pairs
        accepted = matched + self.extras
        return ClassMeasures(
            name=name,
            objects=self.objects,
            accepted=accepted,
            matched=matched,
            misses=self.objects - matched,
            extras=self.extras,
            precision=matched / accepted if accepted else None,
            recall=matched / self.objects if self.objects else None,
            f1=2 * matched / (accepted + self.objects) if accepted + self.objects else None,
            overlap=self.overlap.means(tolerant),
            semantic_iou=semantic,
            mask=mask,
            box=box,
        )
