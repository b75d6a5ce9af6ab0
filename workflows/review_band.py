"""Thresholds that leave a person as much to review as there is time for."""

from __future__ import annotations

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

    What filters other than the joint scores reject stays rejected.

    Raises:
        UsageError: nothing would be left to review.
    """
    classes, quality = labeled.ontology.classes, labeled.export.quality
    if not quality.accept_score:
        quality = replace(quality, accept_score=QualityConfig().accept_score)
    limits = [score_thresholds(quality, spec).accept_score for spec in classes]
    # The lower edge is the same for all classes but those whose own minimum score lowers both edges.
    scales = [
        1.0 if s.name in quality.class_accept_scores else x / quality.accept_score
        for s, x in zip(classes, limits, strict=True)
    ]
    ratios, joints = [], []
    open_below = replace(quality, min_joint_score=0)
    for record in labeled.records():
        for item, judgement in zip(record.instances, judge(record, open_below, classes), strict=True):
            if judgement.verdict != "reject" and limits[item.class_id] and scales[item.class_id]:
                ratios.append(item.joint_score / limits[item.class_id])
                joints.append(item.joint_score / scales[item.class_id])
    if not ratios:
        raise UsageError(f"{labeled.run.output}: no instance passes the other filters, so there is none to review")
    ratio, joint = np.array(ratios), np.array(joints)
    nearest = np.argsort(np.abs(ratio - 1), kind="stable")[:wanted]
    above, below = np.sort(ratio[ratio >= 1]), -np.sort(-joint[ratio < 1])
    taken = int((ratio[nearest] >= 1).sum())
    factor = float(np.append(above, above[-1:] * (1 + 1e-9))[taken - 1 : taken + 1].mean()) if taken else 1.0
    rest = len(nearest) - taken
    lower = float(below[rest - 1 : rest + 1].mean()) if rest else quality.accept_score
    lower = min(lower, *quality.class_accept_scores.values(), 1.0)  # or it would reject what is accepted
    quality = replace(
        quality,
        accept_score=min(quality.accept_score * factor, 1.0),
        min_joint_score=lower,
        class_accept_scores={name: min(score * factor, 1.0) for name, score in quality.class_accept_scores.items()},
    )
    verdicts = [each.verdict for record in labeled.records() for each in judge(record, quality, classes)]
    return ReviewBand(quality, wanted, verdicts.count("review"), verdicts.count("accept"))
