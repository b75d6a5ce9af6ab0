"""Requests of the review page that draw masks, with ``labeler review --assist``.

    GET  assist                      whether the segmenter is loaded
    GET  assist?image=K              the same, once image K is embedded
    GET  objects?image=K             an image and the outlines of the objects in it
    POST masks                       a new draft of a mask, see ``new_draft``
    POST objects                     {"image": K, "draft": N, "class": name}: add what was drawn

A decision on an item takes a draft too: its mask is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from labeler.errors import UsageError
from labeler.geometry.masks import Rle, rle_area, rle_box_xyxy
from labeler.models.segmenters.segmenter import BACKGROUND, OBJECT
from workflows.drawing.outlines import svg_path
from workflows.review.assistant import Assistant
from workflows.review.queue import ReviewQueue


def readiness(assistant: Assistant, image: int | None) -> dict[str, Any]:
    """Whether the segmenter is loaded; if it is, ``image`` is embedded first."""
    is_loaded = assistant.is_loaded
    if is_loaded and image is not None:
        assistant.prepare(image)
    return {"ready": is_loaded}


def new_draft(assistant: Assistant, queue: ReviewQueue, content: Mapping[str, Any]) -> dict[str, Any]:
    """The draft that a box or one more point makes.

    Args:
        content: ``image``, and ``box`` [x1, y1, x2, y2], or ``point`` [x, y] and ``label`` (1 on the object, 0 beside
            it) with ``draft``, the draft to go on from, or ``item``, the item whose mask to start from; all in pixels
            of the image.

    Raises:
        ValueError: the content has another form.
        UsageError, IndexError, ImageError: see ``Assistant.from_box``.
    """
    image = _whole(content, "image")
    if "box" in content:
        x1, y1, x2, y2 = _numbers(content["box"], 4)
        number = assistant.from_box(image, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    else:
        x, y = _numbers(content.get("point"), 2)
        if (label := content.get("label")) not in (OBJECT, BACKGROUND):
            raise ValueError("not the label of a point")
        point = (x, y, int(label))
        if "draft" in content:
            number = assistant.add_point(_whole(content, "draft"), image, point)
        else:
            number = assistant.from_point(image, point, _mask_of(queue, content, image))
    draft = assistant.draft(number, image)
    assert draft.rle is not None  # every draft that can be asked for has a mask
    return {
        "draft": number,
        "outline": svg_path(draft.rle),
        "box": rle_box_xyxy(draft.rle),
        "area": rle_area(draft.rle),
        "score": draft.mask_score,
    }


def add_object(assistant: Assistant, queue: ReviewQueue, content: Mapping[str, Any]) -> dict[str, Any]:
    """Save a draft as a new object.

    Raises:
        ValueError: the content has another form.
        UsageError, IndexError, OSError: see ``ReviewQueue.add``.
    """
    image, name = _whole(content, "image"), content.get("class")
    if not isinstance(name, str):
        raise ValueError("not a class")
    rle, digest = assistant.finished(_whole(content, "draft"), image)
    queue.add(image, digest, name, rle)
    return {"class": name, "progress": queue.progress()}


def drawn_mask(assistant: Assistant | None, queue: ReviewQueue, number: int, content: Mapping[str, Any]) -> Rle | None:
    """The mask of the draft that a decision on item ``number`` names; None if it names none.

    Raises:
        ValueError: the content has another form.
        UsageError, IndexError: see ``Assistant.finished``.
    """
    if content.get("draft") is None:
        return None
    if assistant is None:
        raise UsageError("masks are drawn with --assist")
    image, _ = queue.mask(number)
    rle, digest = assistant.finished(_whole(content, "draft"), image)
    queue.check_digest(image, digest)
    return rle


def _mask_of(queue: ReviewQueue, content: Mapping[str, Any], image: int) -> Rle | None:
    if "item" not in content:
        return None
    its_image, rle = queue.mask(_whole(content, "item"))
    if its_image != image:
        raise ValueError("the item is on another image")
    return rle


def _whole(content: Mapping[str, Any], key: str) -> int:
    value = content.get(key)
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} must be a number")
    return value


def _numbers(values: Any, length: int) -> list[float]:
    if not isinstance(values, list) or len(values) != length:
        raise ValueError(f"expected {length} numbers")
    if not all(type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e9 for value in values):
        raise ValueError(f"expected {length} numbers")
    return [float(value) for value in values]
