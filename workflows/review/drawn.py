"""The decision on an object that a person drew on the review page."""

from __future__ import annotations

from labeler.annotation_tools.corrections import CorrectedImage, CorrectedInstance, SentImage, compare
from labeler.decided import Decided
from labeler.decisions import Decision
from labeler.geometry.masks import Rle
from workflows.review.sent_sets import sent_instance


def drawn_object(decided: Decided, class_name: str, rle: Rle) -> tuple[Decision, int | None]:
    """The decision that adds an object, as one drawn in an annotation tool, and the instance that it is on.

    If it overlaps an instance of its class, with a mask IoU of at least 0.5, that instance is accepted with the new
    mask: the object must not be in the dataset twice. An instance of another class may be another object there.

    Returns:
        The decision, and the index of that instance in ``decided.record``; None for an object that is new.
    """
    record, class_names = decided.record, decided.class_names
    others = {
        index: sent_instance(decided, index)
        for index, each in enumerate(record.instances)
        if each.area and class_names[each.class_id] == class_name
    }
    (decision,) = compare(
        SentImage(record.image_id, record.image_id, record.width, record.height, ()),
        CorrectedImage(record.image_id, (CorrectedInstance(class_name, rle),)),
        list(others.values()),
        class_names,
        exact=True,
    )
    found = (index for index, each in others.items() if each.decision.instance == decision.instance)
    return decision, next(found, None)
