"""Thresholds from a few images with ground truth: accept scores, and which of a few gates suits them best.

``labeler.metrics.thresholds`` finds the accept scores. Other thresholds matter less, so only a few values are tried.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from labeler.errors import UsageError
from labeler.formats.split_groups import group_images
from labeler.ground_truth import GroundTruth, GroundTruthImage
from labeler.image_pairs import find_pairs
from labeler.metrics.candidates import MATCH_IOU, Candidates, CandidateTable, Ints
from labeler.metrics.thresholds import Counts, Target, best_precision, fit
from labeler.metrics.validation import Metric, bootstrap_gains, cross_validated, sums_by_group
from labeler.quality import judge, without_repeats
from labeler.quality_config import QualityConfig, Score
from workflows.dataset.labeled import Labeled
from workflows.evaluation.evaluate import pair_classes, renamed_note
from workflows.settings.evaluation import TuneConfig


@dataclass(frozen=True)
class TunedClass:
    """The result for one class, or for all classes together.

    Attributes:
        names: labeled classes; several where they are one class in the ground truth.
        note: why the accept score is not the class's own, or accepts nothing; else empty.
        before: with the thresholds in force.
        expected: with thresholds that were found on other images (cross-validation).
        fitted: with the thresholds found, on the images that they were found on.
    """

    names: tuple[str, ...]
    accept_score: float
    note: str
    before: Counts
    expected: Counts
    fitted: Counts


@dataclass(frozen=True)
class Tuned:
    """Thresholds that suit the ground truth, and what they are worth.

    Attributes:
        quality: the whole gate.
        classes: those with objects in the ground truth.
        total: all classes together, with the common accept score.
        without_truth: number of the other labeled classes, which take the common accept score.
        images: how many were compared.
        groups: how many these are if copies of one image, and frames of one file, count as one.
        only_labeled, only_true, other_size, ambiguous: how many were not: they are on one side, differ in size, or have
            a name that fits several.
        classes_only_true: class names that nothing was labeled with.
        review_counted: the dataset holds instances under review; they count in ``before`` but not in the others.
        ground_truth_notes: how the ground truth was read where it could not be taken as it stands; one line each.
        gains: by metric, the expected gain and its 95 % interval from a bootstrap over the groups.
    """

    config: TuneConfig
    quality: QualityConfig
    classes: tuple[TunedClass, ...]
    total: TunedClass
    without_truth: int
    images: int
    groups: int
    only_labeled: int
    only_true: int
    other_size: int
    ambiguous: int
    classes_only_true: tuple[str, ...]
    review_counted: bool
    ground_truth_notes: tuple[str, ...]
    gains: Mapping[Metric, tuple[float, float, float]]

    @property
    def gain_expected(self) -> bool:
        """Whether the thresholds are likely to serve the target better on other images.

        Thresholds that just reach a precision where they were found fall short of it elsewhere half of the time, so a
        precision within the interval counts as reached.
        """
        before, expected, precision = self.total.before, self.total.expected, self.config.precision
        if precision is None:
            return expected.f1 > before.f1
        if before.precision + self.gains["precision"][2] < precision:
            return expected.precision > before.precision
        return before.precision < precision or expected.recall > before.recall


def tune(labeled: Labeled, truth: GroundTruth, config: TuneConfig | None = None) -> Tuned:
    """The thresholds that suit ``truth`` best, as a gate for ``ExportConfig.quality``; nothing is written.

    Accepted instances count, matched as in ``evaluate``; people's decisions on instances are ignored.

    Raises:
        UsageError: the ground truth does not suffice, or the precision is out of reach.
    """
    config = config or TuneConfig()
    if truth.semantic:
        raise UsageError("this ground truth does not tell objects of a class apart, which tuning needs")
    now, names = labeled.export.quality, labeled.ontology.class_names
    true_ids = pair_classes(names, truth.class_names, config.class_map, labeled.ontology.removed_ids)
    sizes = labeled.run.sizes()
    by_name = {image.name: image for image in truth.images}
    paired = find_pairs(sizes, by_name)
    in_common = paired.names
    pairs = {
        image_id: by_name[name]
        for image_id, name in in_common.items()
        if sizes[image_id] in ((by_name[name].width, by_name[name].height), (0, 0))
    }
    if len(pairs) < 2:
        raise UsageError(
            f"{len(in_common)} of {len(by_name)} images of the ground truth are labeled, {len(pairs)} of them in the "
            "same size; cross-validation needs 2 at least, and 20 to 200 do well"
        )

    gates = _gates(now, config.score or now.score, _agreements(labeled, pairs))
    before, candidates, groups = _outcomes(labeled, pairs, true_ids, len(truth.class_names), gates)
    if not groups.any():
        raise UsageError(
            f"the {len(pairs)} images in common are copies of one image, or frames of one file; cross-validation needs "
            "2 different images at least, and 20 to 200 do well"
        )
    examples = before[2].sum(axis=0)
    _check_examples(int(examples.sum()), len(pairs), config)
    target, enough = Target(config.precision), examples >= config.min_examples
    # No accept score is below the floor: lower joint and detector scores may not have been recorded.
    floor = 0.0 if gates[0].score == "mask" else float(labeled.settings.floor)
    best, found = fit(candidates, np.ones(len(pairs), dtype=np.bool_), target, enough, floor)
    fitted = candidates[best].counts(found.accept(candidates[best]))
    if not fitted[0].any():
        raise _out_of_reach(candidates, floor, config)
    expected = cross_validated(candidates, target, enough, floor, config.folds, config.seed, groups)

    accept_scores = [found.common if true_id is None else float(found.per_class[true_id]) for true_id in true_ids]
    lowest = min(found.common, *accept_scores)
    review_from = min(now.min_joint_score / now.accept_score, 1.0) * lowest if now.accept_score else lowest
    quality = replace(
        gates[best],
        # Only an instance with a higher score can suppress an accepted one, so this changes nothing that is accepted.
        min_joint_score=min(round(review_from, 4), lowest),
        accept_score=found.common,
        class_accept_scores=dict(zip(names, accept_scores, strict=True)),
    )
    tuned = [
        TunedClass(
            tuple(name for name, each in zip(names, true_ids, strict=True) if each == true_id),
            float(found.per_class[true_id]),
            _note(int(examples[true_id]), bool(found.own[true_id]), bool(fitted[1, :, true_id].any()), config),
            *(_counts(each[:, :, true_id]) for each in (before, expected, fitted)),
        )
        for true_id in dict.fromkeys(true_ids)
        if true_id is not None
    ]
    return Tuned(
        config=config,
        quality=without_repeats(quality, labeled.ontology.classes),
        classes=tuple(each for each in tuned if each.fitted.objects),
        total=TunedClass(("all",), found.common, "", *map(_counts, (before, expected, fitted))),
        without_truth=true_ids.count(None) + sum(not each.fitted.objects for each in tuned),
        images=len(pairs),
        groups=int(groups.max()) + 1,
        only_labeled=len(sizes) - len(in_common) - len(paired.ambiguous),
        only_true=len(by_name) - len(in_common),
        other_size=len(in_common) - len(pairs),
        ambiguous=len(paired.ambiguous),
        classes_only_true=tuple(name for true_id, name in enumerate(truth.class_names) if true_id not in true_ids),
        review_counted=labeled.export.include_review,
        ground_truth_notes=truth.notes + renamed_note(paired),
        gains=bootstrap_gains(sums_by_group(before, groups), sums_by_group(expected, groups), config.seed),
    )


def _agreements(labeled: Labeled, image_ids: Collection[str]) -> list[float]:
    """The values of ``agreement`` to try as a minimum: those of the images' instances but the lowest."""
    records = (record for record in labeled.records() if record.image_id in image_ids)
    found = {instance.agreement for record in records for instance in record.instances}
    return sorted(found)[1:]


def _gates(now: QualityConfig, score: Score, agreements: Sequence[float] = ()) -> list[QualityConfig]:
    """The gates to try, which accept all that they do not reject: the one in force, and with a few other values."""
    gate = replace(now, score=score, min_score=0.0, min_joint_score=0.0, accept_score=0.0, class_accept_scores={})
    gates = [gate, replace(gate, min_mask_score=0.0, min_stability=0.5)]
    gates += [replace(each, duplicate_iou=0.5, cross_class_iou=0.5) for each in gates]
    return gates + [replace(gate, min_agreement=each) for each in agreements for gate in gates]


def _outcomes(
    labeled: Labeled,
    pairs: Mapping[str, GroundTruthImage],
    true_ids: Sequence[int | None],
    class_count: int,
    gates: Sequence[QualityConfig],
) -> tuple[Ints, list[Candidates], Ints]:
    """The counts of what is in the dataset now, what each gate lets through, and the groups of the images."""
    now, classes = labeled.export.quality, labeled.ontology.classes
    without_minimums = [replace(spec, min_score=None) for spec in classes]
    written = ("accept", "review") if labeled.export.include_review else ("accept",)
    trials = [(now, classes, written), *((gate, without_minimums, ("accept",)) for gate in gates)]
    tables = [CandidateTable(true_ids, class_count, gate.score) for gate, _, _ in trials]
    contents: list[tuple[str, str]] = []
    for record in labeled.records():
        if image := pairs.get(record.image_id):
            contents.append((record.image_id, record.digest or record.image_id))
            for table, (gate, specs, verdicts) in zip(tables, trials, strict=True):
                judged = zip(record.instances, judge(record, gate, specs), strict=True)
                table.add((item for item, judgement in judged if judgement.verdict in verdicts), image)
    dataset, *candidates = (table.candidates() for table in tables)
    return dataset.counts(np.ones(len(dataset.score), dtype=np.bool_)), candidates, _groups(contents)


def _groups(contents: Sequence[tuple[str, str]]) -> Ints:
    """A number for each image, which its copies and frames of the same file share, from (image id, digest)."""
    image_ids, digests = (pa.array(column, pa.string()) for column in zip(*contents, strict=True))
    return group_images(image_ids, digests, "content").of_image


def _check_examples(objects: int, images: int, config: TuneConfig) -> None:
    """Raises UsageError if the ground truth has too few objects of labeled classes."""
    if not objects:
        raise UsageError(f"the ground truth has no object of a labeled class in the {images} images in common")
    if objects < config.min_examples:
        raise UsageError(
            f"the ground truth has {objects} objects of labeled classes in {images} images; tuning needs "
            f"{config.min_examples} at least (--min-examples)"
        )


def _out_of_reach(gates: Sequence[Candidates], floor: float, config: TuneConfig) -> UsageError:
    if best := max(best_precision(each, floor) for each in gates):
        return UsageError(f"precision {config.precision} is out of reach on these images; the best is {best:.3f}")
    return UsageError(
        f"no candidate matches an object (mask IoU {MATCH_IOU}); is this the ground truth of these images?"
    )


def _note(examples: int, own: bool, accepted: bool, config: TuneConfig) -> str:
    if examples < config.min_examples:
        return "few examples"
    if not own:
        return "no match"
    return "" if accepted or config.precision is None else "out of reach"


def _counts(counts: Ints) -> Counts:
    """The sums over all images, and classes if there are any."""
    return Counts(*(int(each.sum()) for each in counts))
