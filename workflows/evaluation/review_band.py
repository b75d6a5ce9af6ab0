"""Thresholds that leave a person as much to review as there is time for."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from labeler.errors import UsageError
from labeler.quality import Judgement, effective_thresholds, ranking_score, without_repeats
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord
from ontologies import ClassSpec
from workflows.dataset.labeled import Labeled


@dataclass(frozen=True)
class ReviewBand:
    """Thresholds that send about ``wanted`` instances to review.

    Attributes:
        reviewed, accepted: how many instances have these verdicts; people's decisions are not in ``reviewed``.
    """

    quality: QualityConfig
    wanted: int
    reviewed: int
    accepted: int


def review_band(labeled: Labeled, wanted: int) -> ReviewBand:
    """The gate that sends about ``wanted`` instances to review: those that score nearest to where acceptance begins.

    All accept scores are raised by the same amount, and ``min_joint_score`` is moved. Where classes have different
    accept scores, the first to be reviewed are the best of those that are not accepted but score more than the lowest
    accept score. What other filters reject stays rejected, and what people decided stays decided.

    Raises:
        UsageError: nothing would be left to review.
    """
    classes = labeled.ontology.classes
    quality = _spelled_out(labeled.export.quality, classes)
    accepted_from = np.array([effective_thresholds(quality, spec).accept_score for spec in classes])
    class_ids, scores = array("q"), array("d")
    for record, judged in _judged(labeled, replace(quality, min_joint_score=0)):
        for item, judgement in zip(record.instances, judged, strict=True):
            if judgement.verdict != "reject" and not judgement.by_hand:
                class_ids.append(item.class_id)
                scores.append(ranking_score(item, quality.score))
    if not scores:
        raise UsageError(
            f"{labeled.run.output}: no undecided instance passes the other filters, so there is none to review"
        )
    score, edge = np.array(scores), accepted_from[np.array(class_ids)]
    margin = score - edge
    order = np.argsort(np.where(margin >= 0, margin, edge.min() - score), kind="stable")
    nearest = margin[order[:wanted]]
    above, below = np.unique(margin[margin >= 0]), -np.sort(-score[margin < 0])
    raised = 0.0
    if nearest.max() >= 0:  # equal ones go to review together
        raised = float(np.append(above[above >= nearest.max()], above[-1] + 1e-9)[:2].mean())
    rest = int((nearest < 0).sum())
    review_from = float(below[rest - 1 : rest + 1].mean()) if rest else float(edge.min())
    quality = replace(
        quality,
        min_joint_score=min(review_from, quality.accept_score),
        accept_score=min(quality.accept_score + raised, 1.0),
        class_accept_scores={name: min(own + raised, 1.0) for name, own in quality.class_accept_scores.items()},
    )
    counts: Counter[str] = Counter()
    for _, judged in _judged(labeled, quality):
        counts.update(judgement.verdict for judgement in judged)
    return ReviewBand(without_repeats(quality, classes), wanted, counts["review"], counts["accept"])


def _judged(labeled: Labeled, quality: QualityConfig) -> Iterator[tuple[ImageRecord, list[Judgement]]]:
    return replace(labeled, export=replace(labeled.export, quality=quality)).judged()


def _spelled_out(quality: QualityConfig, classes: Sequence[ClassSpec]) -> QualityConfig:
    """``quality`` with the accept scores where acceptance begins, and that of each class if any has its own.

    ``min_joint_score`` can then be higher than the accept scores of some classes, and rejects nothing accepted there.
    """
    accept_score = max(quality.accept_score, quality.min_joint_score)
    quality = replace(quality, accept_score=accept_score)
    if not quality.class_accept_scores or quality.min_score > accept_score:
        return quality
    common = {spec.name: accept_score for spec in classes if spec.min_score is None}
    own = {**common, **quality.class_accept_scores}
    if own.keys() >= {spec.name for spec in classes}:  # then no class has the common accept score
        accept_score = max(own.values())
    # Minimum scores are lowered to a class's accept score, and must not rise with it.
    min_score = min(quality.min_score, *own.values())
    return replace(quality, min_score=min_score, accept_score=accept_score, class_accept_scores=own)
