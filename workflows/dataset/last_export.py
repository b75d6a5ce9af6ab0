"""What the last export made of a record, from the verdicts that it saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labeler.decided import Decided, decide
from labeler.decisions import Decision
from labeler.records import ImageRecord
from workflows.dataset.verdicts import SavedVerdict


def as_last_exported(
    record: ImageRecord, saved: Sequence[SavedVerdict], decisions: Sequence[Decision], class_names: Sequence[str]
) -> Decided | None:
    """The record as the last export used it; None if that used another record.

    Decisions are only ever appended, so the last export used the first few of them.

    Args:
        saved: the verdicts on the image's instances; they are on those of the result.
        decisions: all that were made on the image.
    """
    for count in range(len(decisions) + 1):
        decided = decide(record, decisions[:count], class_names)
        now = [(each.class_id, np.float32(each.joint_score)) for each in decided.record.instances]
        if now == [(each.class_id, np.float32(each.joint_score)) for each in saved]:
            return decided
    return None
