"""Thresholds from a few images whose truth is known; see ``labeler.metrics.thresholds`` for how they are found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeler.errors import UsageError
from labeler.ground_truth import GroundTruth, GroundTruthImage, pair_images
from labeler.metrics.candidates import MATCH_IOU, Candidates, collect
from labeler.metrics.thresholds import Counts, Own, Target, Thresholds, fit
from labeler.metrics.validation import Metric, bootstrap_gains, cross_validated
from labeler.quality import ClassThresholds, QualityConfig, Verdict, without_repeats
from labeler.records import ImageRecord
from workflows.dataset.labeled import Labeled
from workflows.evaluation.evaluate import pair_classes
from workflows.settings.evaluation import TuneConfig as TuneConfig


@dataclass(frozen=True)
class TunedClass:
    """One row of what came of it.

    Attributes:
        names: labeled classes; several where they are one in the truth.
        accept_score: the score from which an instance is accepted.
        own: other thresholds, where they are the class's own.
        before: with the thresholds in force.
        after: with thresholds fitted on other images (cross-validation); what to expect.
        fitted: with the thresholds found, on the images that they were found on.
        note: why the accept score is not the class's own, or accepts nothing; else empty.
    """

    names: tuple[str, ...]
    accept_score: float
    own: Own | None
    before: Counts
    after: Counts
    fitted: Counts
    note: str


@dataclass(frozen=True)
class Tuned:
    """Thresholds that suit the truth, and what they are worth.

    Attributes:
        quality: the whole gate.
        images: how many were looked at.
        only_labeled, only_true, other_size: how many were not: they are on one side, or of another size in the truth.
        classes_only_true: class names that nothing was labeled with.
        review_counted: instances under review are in the dataset now, and count in ``before``; not in the others.
        before, after, fitted: as of ``TunedClass``, over all classes.
        gains: by metric, the expected gain, and its 95 % interval by a bootstrap over the images.
    """

    config: TuneConfig
    quality: QualityConfig
    classes: tuple[TunedClass, ...]
    images: int
    only_labeled: int
    only_true: int
    other_size: int
    classes_only_true: tuple[str, ...]
    review_counted: bool
    before: Counts
    after: Counts
    fitted: Counts
    gains: Mapping[Metric, tuple[float, float, float]]

    @property
    def gain_expected(self) -> bool:
        """Whether the thresholds are likely to do better by the target on other images.

        Those that just reach a precision where they were found fall short of it elsewhere half of the time: one that is
        within the interval counts as reached.
        """
        precision = self.config.precision
        if precision is None:
            return self.after.f1 > self.before.f1
        if self.before.precision + self.gains["precision"][2] < precision:
            return self.after.precision > self.before.precision
        return self.before.precision < precision or self.after.recall > self.before.recall


def tune(labeled: Labeled, truth: GroundTruth, config: TuneConfig | None = None) -> Tuned:
    """The gate that suits ``truth`` best, for ``ExportConfig.quality``; nothing is written.

    What the gate accepts is what counts, matched as ``evaluate`` does, best score first; what people decided on
    instances is left aside.

    Raises:
        UsageError: nothing can be learned from the truth, or the precision is out of reach.
    """
    config = config or TuneConfig()
    if truth.semantic:
        raise UsageError("this truth gives pixels a class but tells no objects apart, which thresholds are tuned on")
    names, now = labeled.ontology.class_names, labeled.export.quality
    quality = replace(now, score=config.score or now.score)
    true_ids = pair_classes(names, truth.class_names, config.class_map)
    keys = [("true", true_id) if true_id is not None else ("labeled", place) for place, true_id in enumerate(true_ids)]
    groups = {key: group for group, key in enumerate(dict.fromkeys(keys))}
    group_of = [groups[key] for key in keys]
    group_of_true = [groups.get(("true", true_id)) for true_id in range(len(truth.class_names))]

    sizes = labeled.run.sizes()
    by_name = {image.name: image for image in truth.images}
    in_common = pair_images(sizes, by_name)
    pairs = {
        image_id: by_name[name]
        for image_id, name in in_common.items()
        if sizes[image_id] in ((by_name[name].width, by_name[name].height), (0, 0))
    }
    if len(pairs) < 2:
        raise UsageError(
            f"{len(in_common)} of {len(by_name)} images of the truth are labeled, and {len(pairs)} of them in the same "
            "size; cross-validation takes two at least, and 20 to 200 do well"
        )

    def beside() -> Iterator[tuple[ImageRecord, GroundTruthImage]]:
        for record in labeled.records():
            if record.image_id in pairs:
                yield record, _renumbered(pairs[record.image_id], group_of_true)

    written: tuple[Verdict, ...] = ("accept", "review") if labeled.export.include_review else ("accept",)
    known = {group for group in group_of_true if group is not None}
    in_force = collect(beside(), labeled.ontology.classes, now, group_of, known, written)
    before = in_force.counts(in_force.accepted)
    candidates = in_force if quality == now else collect(beside(), labeled.ontology.classes, quality, group_of, known)
    # No joint score is above its detector score, so what is at or above the floor was recorded; mask scores are free.
    floor = 0.0 if quality.score == "mask" else float(labeled.settings.floor)
    thresholds, after, fitted = _tuned(candidates, quality, config, floor)
    examples = candidates.true.sum(axis=0)
    accept_scores = {name: float(thresholds.accept_scores[group]) for name, group in zip(names, group_of, strict=True)}
    limits, least = thresholds.limits, min(thresholds.accept_score, *accept_scores.values())
    of_classes = {
        name: ClassThresholds(accept_scores[name], *limits.of_groups.get(group, ()))
        for name, group in zip(names, group_of, strict=True)
    }
    totals = [_total(counts) for counts in (before, after, fitted)]
    tuned = replace(
        quality,
        # What scores more than an accepted one must pass, since it may suppress that; what scores less changes
        # nothing accepted.
        min_score=0.0,
        min_joint_score=min(round(_review_share(now) * least, 4), least),
        accept_score=thresholds.accept_score,
        min_mask_score=limits.min_mask_score,
        min_stability=limits.min_stability,
        duplicate_iou=limits.duplicate_iou,
        cross_class_iou=limits.cross_class_iou,
        of_classes=of_classes,
    )
    return Tuned(
        config=config,
        quality=without_repeats(tuned, labeled.ontology.classes),
        classes=tuple(
            TunedClass(
                tuple(name for name, of_name in zip(names, group_of, strict=True) if of_name == group),
                float(thresholds.accept_scores[group]),
                limits.of_groups.get(group),
                _total(before[:, :, group]),
                _total(after[:, :, group]),
                _total(fitted[:, :, group]),
                _note(int(examples[group]), bool(thresholds.own[group]), _total(fitted[:, :, group]), config),
            )
            for group in groups.values()
        ),
        images=len(pairs),
        only_labeled=len(sizes) - len(in_common),
        only_true=len(by_name) - len(in_common),
        other_size=len(in_common) - len(pairs),
        classes_only_true=tuple(
            name for name, group in zip(truth.class_names, group_of_true, strict=True) if group is None
        ),
        review_counted=labeled.export.include_review,
        before=totals[0],
        after=totals[1],
        fitted=totals[2],
        gains=bootstrap_gains(before, after, config.seed),
    )


def _tuned(
    candidates: Candidates, quality: QualityConfig, config: TuneConfig, floor: float
) -> tuple[Thresholds, NDArray[np.int64], NDArray[np.int64]]:
    """Thresholds, and the counts of ``after`` and ``fitted``."""
    examples = candidates.true.sum(axis=0)
    if not examples.any():
        raise UsageError(f"the truth has no object of a labeled class in the {len(candidates.true)} images in common")
    if examples.sum() < config.min_examples:
        raise UsageError(
            f"the truth has {examples.sum()} objects of labeled classes in {len(candidates.true)} images; tuning takes "
            f"{config.min_examples} at least (--min-examples), so the thresholds in force stay"
        )
    target, enough = Target(config.precision), examples >= config.min_examples
    everything = np.ones(len(candidates.true), dtype=np.bool_)
    thresholds, best_precision = fit(candidates, everything, target, quality, enough, floor)
    fitted = candidates.counts(thresholds.accepted(candidates))
    if not best_precision:
        raise UsageError(f"no candidate meets a true object (mask IoU {MATCH_IOU}); is it the truth of these images?")
    if not fitted[0].any():
        raise UsageError(
            f"precision {config.precision} is out of reach on these images; the best is {best_precision:.3f}"
        )
    after = cross_validated(candidates, target, quality, enough, floor, config.folds, config.seed)
    return thresholds, after, fitted


def _renumbered(image: GroundTruthImage, group_of_true: Sequence[int | None]) -> GroundTruthImage:
    """``image`` with the labels' groups for class ids; what is of none is left out."""

    def renumber(class_ids: frozenset[int]) -> frozenset[int]:
        return frozenset(group for class_id in class_ids if (group := group_of_true[class_id]) is not None)

    kept = ((item, group_of_true[item.class_id]) for item in image.instances)
    return replace(
        image,
        instances=tuple(replace(item, class_id=group) for item, group in kept if group is not None),
        absent=None if image.absent is None else renumber(image.absent),
        not_exhaustive=renumber(image.not_exhaustive),
    )


def _review_share(quality: QualityConfig) -> float:
    """Where review begins, as a share of where acceptance does."""
    return min(quality.min_joint_score / quality.accept_score, 1.0) if quality.accept_score else 1.0


def _note(examples: int, own: bool, fitted: Counts, config: TuneConfig) -> str:
    if examples < config.min_examples:
        return "few examples" if examples else "no example"
    if not own:
        return "no hit"
    return "" if fitted.found or config.precision is None else "out of reach"


def _total(counts: NDArray[np.int64]) -> Counts:
    hits, found, true = (int(each.sum()) for each in counts)
    return Counts(hits, found, true)
