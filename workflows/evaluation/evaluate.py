"""Measures a labeled folder against ground truth, in one pass over its records.

Images are paired by name, and classes by name or by a given mapping.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from labeler.errors import UsageError
from labeler.ground_truth import GroundTruth, GroundTruthInstance, class_key
from labeler.image_pairs import ImagePairs, find_pairs
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.metrics.measures import DatasetMeasures, ImageMeasures
from labeler.quality import Judgement
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from workflows.dataset.labeled import Labeled
from workflows.settings.evaluation import EvaluationConfig

WORST = 12
NAMES_SHOWN = 5


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


@dataclass(frozen=True)
class Evaluation:
    """The result of ``evaluate``.

    Attributes:
        images: the number of images compared. The next five lists name images that are not among them, or that failed.
        only_labeled: images that are not in the ground truth.
        ambiguous: images whose name fits several names in the ground truth, or shares one with other images.
        only_in_ground_truth: images of the ground truth that were not labeled.
        other_size: images that have another size in the ground truth.
        failed: images that could not be labeled; they are compared, and all their objects are false negatives.
        quality, include_review: the gate of the dataset, and whether instances under review count as accepted.
        decided: the number of instances, in the compared images, that people decided on.
        classes_only_labeled: labeled classes that are not in the ground truth.
        classes_only_in_ground_truth: classes of the ground truth that were not labeled.
        class_names, frequencies: those of the ground truth.
        image_scores: ``ImageMeasures.score`` of each image that has one, in the order of the records.
        worst: the images with the lowest scores, the worst first.
        ground_truth_notes: how the ground truth was read where it could not be taken as it stands; one line each.
    """

    config: EvaluationConfig
    semantic: bool
    images: int
    only_labeled: list[str]
    ambiguous: list[str]
    only_in_ground_truth: list[str]
    other_size: list[str]
    failed: list[str]
    quality: QualityConfig
    include_review: bool
    decided: int
    classes_only_labeled: list[str]
    classes_only_in_ground_truth: list[str]
    measured: DatasetMeasures
    class_names: tuple[str, ...]
    frequencies: tuple[str, ...]
    image_scores: Sequence[float]
    worst: list[WorstImage]
    ground_truth_notes: tuple[str, ...] = ()


def evaluate(labeled: Labeled, ground_truth: GroundTruth, config: EvaluationConfig | None = None) -> Evaluation:
    """Measure ``labeled`` against ``ground_truth``. Memory grows by a few bytes per image and instance.

    Raises:
        UsageError: they have no image or no class in common, or the class map names an unknown class.
    """
    config = config or EvaluationConfig()
    names = labeled.ontology.class_names
    class_ids = pair_classes(names, ground_truth.class_names, config.class_map, labeled.ontology.removed_ids)
    compared = {each for each in class_ids if each is not None}
    sizes = labeled.run.sizes()
    found = find_pairs(sizes, (image.name for image in ground_truth.images))
    pairs, unclear = found.names, set(found.ambiguous)
    if not pairs:
        raise UsageError(
            f"no image in common: {_some('labeled', list(sizes))}; "
            f"{_some('ground truth', [image.name for image in ground_truth.images])}{_unclear(found)}"
        )
    indices = {image.name: index for index, image in enumerate(ground_truth.images)}
    measures = MeasureAccumulator(
        ground_truth.class_names, config.measures, None if config.every_class else sorted(compared)
    )
    only_labeled: list[str] = []
    ambiguous: list[str] = []
    other_size: list[str] = []
    failed: list[str] = []
    scores = array("f")
    worst = _WorstImages()
    images = decided = 0
    for record, judgements in labeled.judged(config.by_hand):
        if record.image_id not in pairs:
            (ambiguous if record.image_id in unclear else only_labeled).append(record.image_id)
            continue
        index = indices[pairs[record.image_id]]
        image = ground_truth.images[index]
        if record.status == "error":
            failed.append(record.image_id)
        elif (record.width, record.height) != (image.width, image.height):
            other_size.append(record.image_id)
            continue
        candidates, accepted = _candidates(record, judgements, class_ids, labeled.export.include_review)
        decided += sum(judgement.by_hand for judgement in judgements)
        measured = measures.add(index, image, candidates, accepted)
        images += 1
        if measured.score is None:
            continue
        scores.append(measured.score)
        kept = tuple(each for each, is_accepted in zip(candidates, accepted, strict=True) if is_accepted)
        true = tuple(each for each in image.instances if config.every_class or each.class_id in compared)
        worst.add(measured.score, WorstImage(record.image_id, record.digest, measured, kept, true))
    if not images:
        raise UsageError(f"every image in common has another size in the ground truth; {_some('these', other_size)}")
    labeled_names = set(pairs.values())
    return Evaluation(
        config=config,
        semantic=ground_truth.semantic,
        images=images,
        only_labeled=only_labeled,
        ambiguous=ambiguous,
        only_in_ground_truth=[image.name for image in ground_truth.images if image.name not in labeled_names],
        other_size=other_size,
        failed=failed,
        quality=labeled.export.quality,
        include_review=labeled.export.include_review,
        decided=decided,
        classes_only_labeled=[name for name, class_id in zip(names, class_ids, strict=True) if class_id is None],
        classes_only_in_ground_truth=[
            name for class_id, name in enumerate(ground_truth.class_names) if class_id not in compared
        ],
        measured=measures.result(),
        class_names=ground_truth.class_names,
        frequencies=ground_truth.frequencies,
        image_scores=scores,
        worst=worst.sorted(),
        ground_truth_notes=ground_truth.notes + renamed_note(found),
    )


def renamed_note(pairs: ImagePairs) -> tuple[str, ...]:
    """A note on the images that were paired through what is left of names that a tool changed."""
    if not pairs.renamed:
        return ()
    shown = "; ".join(f"{image_id} = {pairs.names[image_id]}" for image_id in pairs.renamed[:NAMES_SHOWN])
    more = "; …" if len(pairs.renamed) > NAMES_SHOWN else ""
    what = "images paired without what a tool added to their names"
    if len(pairs.renamed) == 1:
        what = "image paired without what a tool added to its name"
    return (f"{len(pairs.renamed)} {what} ({shown}{more})",)


def _candidates(
    record: ImageRecord, judgements: Sequence[Judgement], class_ids: Sequence[int | None], include_review: bool
) -> tuple[list[Instance], list[bool]]:
    """The record's candidates with class ids of the ground truth, and whether each counts as accepted.

    Candidates of classes that are not in the ground truth, and those that a person rejected, are left out.
    """
    counted = ("accept", "review") if include_review else ("accept",)
    candidates: list[Instance] = []
    accepted: list[bool] = []
    for instance, judgement in zip(record.instances, judgements, strict=True):
        class_id = class_ids[instance.class_id]
        if class_id is not None and not (judgement.by_hand and judgement.verdict == "reject"):
            candidates.append(replace(instance, class_id=class_id))
            accepted.append(judgement.verdict in counted)
    return candidates, accepted


class _WorstImages:
    """Keeps the ``WORST`` images with the lowest scores; of equal scores those with more errors, then earlier ones."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, WorstImage]] = []
        self._added = 0

    def add(self, score: float, image: WorstImage) -> None:
        self._added += 1
        errors = image.measures.false_negatives + image.measures.false_positives
        item = (-score, errors, -self._added, image)
        if len(self._heap) < WORST:
            heapq.heappush(self._heap, item)
        else:
            heapq.heappushpop(self._heap, item)

    def sorted(self) -> list[WorstImage]:
        """The worst first."""
        return [item[-1] for item in sorted(self._heap, key=lambda item: item[:3], reverse=True)]


def pair_classes(
    names: Sequence[str], true_names: Sequence[str], class_map: Mapping[str, str], removed: Collection[int] = ()
) -> list[int | None]:
    """For each labeled class, the class id in the ground truth, or None.

    Names are equal if they differ only in case, underscores and spaces. Several labeled classes may be mapped to one
    class of the ground truth.

    Args:
        names: the labeled classes.
        true_names: the classes of the ground truth, by class id.
        class_map: labeled class -> class of the ground truth.
        removed: ids of labeled classes that are compared with none.

    Raises:
        UsageError: no class is in common, or ``class_map`` names an unknown class.
    """
    ids = {class_key(name): class_id for class_id, name in reversed(list(enumerate(true_names)))}
    known = {class_key(name) for name in names}
    mapped: dict[str, int] = {}
    for ours, theirs in class_map.items():
        if class_key(ours) not in known:
            raise UsageError(f"--map {ours}={theirs}: {ours!r} is not a labeled class; {_some('labeled', names)}")
        if class_key(theirs) not in ids:
            raise UsageError(
                f"--map {ours}={theirs}: the ground truth has no class {theirs!r}; {_some('ground truth', true_names)}"
            )
        mapped[class_key(ours)] = ids[class_key(theirs)]
    ids |= mapped
    class_ids = [None if number in removed else ids.get(class_key(name)) for number, name in enumerate(names)]
    if all(class_id is None for class_id in class_ids):
        raise UsageError(
            f"no class in common: {_some('labeled', names)}; {_some('ground truth', true_names)}; say which is which "
            'with --map "labeled=ground truth"'
        )
    return class_ids


def _unclear(pairs: ImagePairs) -> str:
    return f"; {_some('names that fit several', pairs.ambiguous)}" if pairs.ambiguous else ""


def _some(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    return f"{what}: {shown}{f', … ({len(names)} in all)' if len(names) > NAMES_SHOWN else ''}"
