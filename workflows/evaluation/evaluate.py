"""Measures a labeled folder against ground truth, in one pass over its records.

Images are paired by name, and classes by name or by a given mapping.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from labeler.errors import UsageError
from labeler.files.parallel import in_order
from labeler.files.processes import on_all_cores
from labeler.ground_truth import GroundTruth, class_key
from labeler.image_pairs import ImagePairs, find_pairs
from labeler.metrics.measures import DatasetMeasures
from labeler.quality_config import QualityConfig
from labeler.record_files import read_columns
from workflows.dataset.judged_shards import JudgedShards
from workflows.dataset.labeled import Labeled
from workflows.evaluation.measuring import Comparison, MeasuredImages, WorstImage, measure_shard
from workflows.run.shard_records import ShardRecords
from workflows.settings.evaluation import EvaluationConfig

NAMES_SHOWN = 5
WORTH_IT = 1000  # images; with fewer, starting processes takes longer than measuring


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
        labels: ``JudgedShards.digest`` of what was measured.
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
    labels: str
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
    labels = JudgedShards(labeled.run, labeled.rules, labeled.decisions()).digest
    measured = range(len(ground_truth.class_names)) if config.every_class else sorted(compared)
    how = Comparison(labeled.rules, class_ids, ground_truth.class_names, measured, config.measures)
    images = _measured_images(labeled, how, pairs, ground_truth, config.by_hand)
    if not images.images:
        raise UsageError(
            f"every image in common has another size in the ground truth; {_some('these', images.other_size)}"
        )
    labeled_names = set(pairs.values())
    return Evaluation(
        config=config,
        semantic=ground_truth.semantic,
        images=images.images,
        only_labeled=[image_id for image_id in images.unpaired if image_id not in unclear],
        ambiguous=[image_id for image_id in images.unpaired if image_id in unclear],
        only_in_ground_truth=[image.name for image in ground_truth.images if image.name not in labeled_names],
        other_size=images.other_size,
        failed=images.failed,
        quality=labeled.export.quality,
        include_review=labeled.export.include_review,
        decided=images.decided,
        classes_only_labeled=[name for name, class_id in zip(names, class_ids, strict=True) if class_id is None],
        classes_only_in_ground_truth=[
            name for class_id, name in enumerate(ground_truth.class_names) if class_id not in compared
        ],
        measured=images.measures.result(),
        class_names=ground_truth.class_names,
        frequencies=ground_truth.frequencies,
        image_scores=images.scores,
        worst=images.worst.sorted(),
        labels=labels,
        ground_truth_notes=ground_truth.notes + renamed_note(found),
    )


def renamed_note(pairs: ImagePairs) -> tuple[str, ...]:
    """A note on the images that were paired by names that a tool changed."""
    if not pairs.renamed:
        return ()
    shown = "; ".join(f"{image_id} = {pairs.names[image_id]}" for image_id in pairs.renamed[:NAMES_SHOWN])
    more = "; …" if len(pairs.renamed) > NAMES_SHOWN else ""
    what = "images paired by names that a tool changed"
    if len(pairs.renamed) == 1:
        what = "image paired by a name that a tool changed"
    return (f"{len(pairs.renamed)} {what} ({shown}{more})",)


def _measured_images(
    labeled: Labeled, how: Comparison, pairs: Mapping[str, str], ground_truth: GroundTruth, by_hand: bool
) -> MeasuredImages:
    """All images, compared on all cores, and added up shard by shard."""
    indices = {image.name: index for index, image in enumerate(ground_truth.images)}
    decisions = labeled.decisions() if by_hand else {}
    found = MeasuredImages(how)
    with on_all_cores(partial(measure_shard, how), len(pairs) >= WORTH_IT) as (measure, at_once):

        def measured(source: ShardRecords) -> MeasuredImages:
            ids = source.image_ids
            if ids is None:
                ids = read_columns(source.files[source.index], ["image_id"]).column(0).to_pylist()
            paired = [(image_id, indices[pairs[image_id]]) for image_id in ids if image_id in pairs]
            truth = {image_id: (index, ground_truth.images[index]) for image_id, index in paired}
            return measure(source, {each: decisions[each] for each in ids if each in decisions}, truth)

        for part in in_order(measured, labeled.run.current().shards(), at_once):
            found.include(part)
    return found


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
