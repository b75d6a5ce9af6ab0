"""Thresholds that leave a person as much to review as there is time for."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labeler.errors import UsageError
from labeler.quality import (
    ClassThresholds,
    Judgement,
    QualityConfig,
    effective_thresholds,
    ranking_score,
    without_repeats,
)
from labeler.records import ImageRecord
from ontologies import ClassSpec
from workflows.dataset.labeled import Labeled


@dataclass(frozen=True)
class ReviewBand:
    """Thresholds that send about ``wanted`` instances to review.

    Attributes:
        found: how many go there, of the ``accepted + found`` that are not rejected; none that a person decided on.
    """

    quality: QualityConfig
    wanted: int
    found: int
    accepted: int


def review_band(labeled: Labeled, wanted: int) -> ReviewBand:
    """The gate that sends about ``wanted`` instances to review: those nearest to where acceptance begins now.

    Near is what is so in proportion to the accept score of its class. What filters other than ``min_joint_score``
    reject stays rejected, and what people decided stays decided.

    Raises:
        UsageError: nothing would be left to review.
    """
    classes, quality = labeled.ontology.classes, _proportional(labeled.export.quality, labeled.ontology.classes)
    limits = np.array([effective_thresholds(quality, spec).accept_score for spec in classes])
    class_ids, scores = array("q"), array("d")
    for record, judged in _judged(labeled, replace(quality, min_joint_score=0)):
        for item, judgement in zip(record.instances, judged, strict=True):
            if judgement.verdict != "reject" and not judgement.by_hand and limits[item.class_id]:
                class_ids.append(item.class_id)
                scores.append(ranking_score(item, quality.score))
    if not scores:
        raise UsageError(
            f"{labeled.run.output}: no undecided instance passes the other filters, so there is none to review"
        )
    class_id, score = np.array(class_ids), np.array(scores)
    ratio = score / limits[class_id]
    nearest = np.argsort(np.abs(ratio - 1), kind="stable")[:wanted]
    taken = int((ratio[nearest] >= 1).sum())
    above = np.unique(ratio[ratio >= 1])
    highest = ratio[nearest].max() if taken else 1.0  # equal ones go to review together
    factor = float(np.append(above[above >= highest], above[-1:] * (1 + 1e-9))[:2].mean()) if taken else 1.0
    quality = replace(
        quality,
        accept_score=min(quality.accept_score * factor, 1.0),
        of_classes={
            name: own if own.accept_score is None else replace(own, accept_score=min(own.accept_score * factor, 1.0))
            for name, own in quality.of_classes.items()
        },
    )
    # The lower edge of a class is a share of ``min_joint_score``.
    shares = [effective_thresholds(replace(quality, min_joint_score=1.0), spec).min_joint_score for spec in classes]
    below = -np.sort(-(score / np.array(shares)[class_id])[ratio < 1])
    rest = len(nearest) - taken
    lower = float(below[rest - 1 : rest + 1].mean()) if rest else quality.accept_score / factor
    quality = replace(quality, min_joint_score=min(lower, quality.accept_score))
    counts: Counter[str] = Counter()
    for _, judged in _judged(labeled, quality):
        counts.update(judgement.verdict for judgement in judged)
    return ReviewBand(without_repeats(quality, classes), wanted, counts["review"], counts["accept"])


def _judged(labeled: Labeled, quality: QualityConfig) -> Iterator[tuple[ImageRecord, list[Judgement]]]:
    return replace(labeled, export=replace(labeled.export, quality=quality)).judged()


def _proportional(quality: QualityConfig, classes: Sequence[ClassSpec]) -> QualityConfig:
    """``quality`` with both edges of a class's band in proportion to its accept score, as far as can be."""
    own = {name: each.accept_score for name, each in quality.of_classes.items() if each.accept_score is not None}
    if own and quality.accept_score and not quality.min_score:  # the general one is as good as a class's own
        own = {spec.name: quality.accept_score for spec in classes if spec.min_score is None} | own
    if own.keys() >= {spec.name for spec in classes}:  # then ``accept_score`` itself is of no class: a mere measure
        usual = ClassThresholds()
        of_classes = {name: replace(quality.of_classes.get(name, usual), accept_score=own[name]) for name in own}
        return replace(quality, accept_score=max(own.values()), of_classes=of_classes)
    return quality if quality.accept_score else replace(quality, accept_score=QualityConfig().accept_score)
