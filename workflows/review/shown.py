"""What the review page shows of an image's instances, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labeler.decided import Decided
from labeler.geometry.masks import Rle, rle_area, rle_box_xyxy
from labeler.quality import Judgement
from labeler.records import instance_ids
from workflows.drawing.outlines import svg_path


def shown_item(decided: Decided, index: int, judgement: Judgement) -> dict[str, Any]:
    """Everything the page shows of the instance at ``index``.

    Args:
        judgement: the gate's.
    """
    record = decided.labeled
    instance = record.instances[index]
    class_name, rle = shown_look(decided, index)
    area = rle_area(rle)
    return {
        "instance": str(instance_ids(record)[index]),
        "image_id": record.image_id,
        "width": record.width,
        "height": record.height,
        "class": class_name,
        "labeled_as": decided.class_names[instance.class_id],
        "prompt": instance.prompt,
        "scores": {
            "joint": instance.joint_score,
            "detector": instance.score,
            "mask": instance.mask_score,
            "stability": instance.stability,
            **({"agreement": instance.agreement} if instance.agreement < 1 else {}),
        },
        "verdict": judgement.verdict,
        "reason": judgement.reason,
        "decided": last_verdict(decided, index),
        "box": rle_box_xyxy(rle) if area else instance.box_xyxy,
        "detector_box": instance.box_xyxy,
        "area": area,
        "outline": svg_path(rle),
    }


def shown_objects(decided: Decided, judgements: Sequence[Judgement]) -> dict[str, Any]:
    """An image, and the objects in it that are accepted or under review, with those that people added."""
    record = decided.record
    return {
        "image_id": record.image_id,
        "width": record.width,
        "height": record.height,
        "objects": [
            {
                "class": decided.class_names[instance.class_id],
                "verdict": judgement.verdict,
                "outline": svg_path(instance.rle),
            }
            for instance, judgement in zip(record.instances, judgements, strict=True)
            if judgement.verdict != "reject" and instance.area
        ],
    }


def shown_look(decided: Decided, index: int) -> tuple[str, Rle]:
    """Class and mask that a person gave an instance, even if it was rejected afterwards; else those as labeled."""
    instance = decided.labeled.instances[index]
    return decided.outcomes.get(index, (decided.class_names[instance.class_id], instance.rle))


def last_verdict(decided: Decided, index: int) -> str | None:
    """The last decision on the object, whichever of its instances is shown."""
    decisions = decided.decisions.get(index)
    return decisions[-1].verdict if decisions else None
