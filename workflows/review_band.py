"""Thresholds that leave a person as much to review as there is time for."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from labeler.errors import UsageError
from labeler.quality import QualityConfig, judge, score_thresholds
from workflows.labeled import Labeled


@dataclass(frozen=True)
class ReviewBand:
    """Thresholds that send about ``wanted`` instances to review.

    Attributes:
        found: how many go there, of the ``accepted + found`` that are not rejected.
    """

    quality: QualityConfig
    wanted: int
    found: int
    accepted: int


def review_band(labeled: Labeled, wanted: int) -> ReviewBand:
    """The gate that sends about ``wanted`` instances to review: those nearest to where acceptance begins now.

    Near is what is so in proportion to the accept score of its class. What filters other than the joint score reject
    stays rejected.

    Raises:
        UsageError: nothing would be left to review.
    """
    classes, quality = labeled.ontology.classes, _proportional(labeled.export.quality, labeled.ontology.class_names)
    limits = np.array([score_thresholds(quality, spec).accept_score for spec in classes])
    class_ids, joints = array("q"), array("d")
    for record in labeled.records():
        judged = judge(record, replace(quality, min_joint_score=0), classes)
        for item, judgement in zip(record.instances, judged, strict=True):
            if judgement.verdict != "reject" and limits[item.class_id]:
                class_ids.append(item.class_id)
                joints.append(item.joint_score)
    if not joints:
        raise UsageError(f"{labeled.run.output}: no instance passes the other filters, so there is none to review")
    class_id, joint = np.array(class_ids), np.array(joints)
    ratio = joint / limits[class_id]
    nearest = np.argsort(np.abs(ratio - 1), kind="stable")[:wanted]
    taken = int((ratio[nearest] >= 1).sum())
    above = np.sort(ratio[ratio >= 1])
    factor = float(np.append(above, above[-1:] * (1 + 1e-9))[taken - 1 : taken + 1].mean()) if taken else 1.0
    quality = replace(
        quality,
        accept_score=min(quality.accept_score * factor, 1.0),
        class_accept_scores={name: min(score * factor, 1.0) for name, score in quality.class_accept_scores.items()},
    )
    # The lower edge of a class is a share of ``min_joint_score``.
    shares = [score_thresholds(replace(quality, min_joint_score=1.0), spec).min_joint_score for spec in classes]
    below = -np.sort(-(joint / np.array(shares)[class_id])[ratio < 1])
    rest = len(nearest) - taken
    lower = float(below[rest - 1 : rest + 1].mean()) if rest else quality.accept_score / factor
    quality = replace(quality, min_joint_score=min(lower, quality.accept_score))
    counts: Counter[str] = Counter()
    for record in labeled.records():
        counts.update(judgement.verdict for judgement in judge(record, quality, classes))
    return ReviewBand(quality, wanted, counts["review"], counts["accept"])


def _proportional(quality: QualityConfig, class_names: Sequence[str]) -> QualityConfig:
    """``quality`` with both edges of a class's band in proportion to its accept score, as far as can be."""
    of_classes = quality.class_accept_scores
    if of_classes.keys() >= set(class_names):  # then ``accept_score`` itself is of no class, and is a mere measure
        return replace(quality, accept_score=max(of_classes.values()))
    return quality if quality.accept_score else replace(quality, accept_score=QualityConfig().accept_score)
