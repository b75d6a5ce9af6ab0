"""What a person changed in an annotation tool: the instances that were sent, compared with what came back.

The readers in ``labeler.formats`` (``label_studio``, ``cvat``, ``fiftyone``) give ``CorrectedImage``; comparing makes
``Decision`` of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labeler.decisions import Decision
from labeler.errors import FormatError
from labeler.files.image_ids import check_image_id
from labeler.geometry.masks import Rle, checked_rle, mask_iou, mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.opencv import opencv
from labeler.sizes import checked_size, finite_number

SAME_OBJECT_IOU = 0.5  # from which a mask without an id is taken for the one that was sent
SAME_MASK_IOU = 0.98  # from which a mask counts as untouched
OUTLINE_PIXELS = 3.0  # how far a tool's polygon may run beside the mask it was made of; FiftyOne allows itself 2


@dataclass(frozen=True, slots=True)
class SentInstance:
    """One instance as it went to a tool.

    Attributes:
        sent_id: of this instance in this review set, and nowhere else.
        score: the joint one.
    """

    sent_id: str
    class_name: str
    rle: Rle
    score: float


@dataclass(frozen=True, slots=True)
class SentImage:
    """One image as it went to a tool; ``name`` is that of its file there, without folders."""

    image_id: str
    name: str
    width: int
    height: int
    instances: tuple[SentInstance, ...]

    def to_row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "image_id": self.image_id,
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "instances": [
                {
                    "id": each.sent_id,
                    "class": each.class_name,
                    "score": each.score,
                    "counts": each.rle["counts"].decode(),
                }
                for each in self.instances
            ],
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> SentImage:
        """The inverse of ``to_row``.

        Raises:
            FormatError: ``row`` is not what ``to_row`` makes.
        """
        try:
            texts = [row["name"], *(each[key] for each in row["instances"] for key in ("id", "class"))]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("names, classes and ids must be text")
            image_id = check_image_id(row["image_id"])
            width, height = checked_size(row["width"], row["height"])
            instances = []
            for each in row["instances"]:
                rle = checked_rle({"size": [height, width], "counts": each["counts"]})
                score = finite_number(each["score"], "a score")
                instances.append(SentInstance(each["id"], each["class"], rle, score))
            return cls(image_id, row["name"], width, height, tuple(instances))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            cause = f"{error} is missing" if isinstance(error, KeyError) else error
            raise FormatError(f"not an image of a review set ({cause})") from error


@dataclass(frozen=True, slots=True)
class CorrectedInstance:
    """One object as it came back.

    Attributes:
        sent_id: as it was sent, where the tool kept it; empty else.
        outlined: the tool gave polygons: these run a little beside the mask that they were made of, and lose its holes.
    """

    class_name: str
    rle: Rle
    sent_id: str = ""
    outlined: bool = False


@dataclass(frozen=True, slots=True)
class CorrectedImage:
    """One image that a person has looked at.

    Attributes:
        name: as the tool names the file, perhaps with folders.
        shapes: how many more there are without a mask: boxes, points, …
    """

    name: str
    instances: tuple[CorrectedInstance, ...]
    shapes: int = 0


def compare(
    sent: SentImage, corrected: CorrectedImage, others: Sequence[SentInstance] = (), class_names: Sequence[str] = ()
) -> list[Decision]:
    """What was decided on one image.

    An instance that came back is accepted, with another class or mask if it has one; one that did not is rejected. What
    is new there is one of ``others`` if it lies where that does, since who was not shown an instance draws it; else it
    is an object that was added.

    Args:
        others: instances of the image that were not sent.
        class_names: those that there are; empty if any will do.

    Raises:
        FormatError: an object is of no known class, or its mask is of another size than the image.
    """
    came = [each for each in corrected.instances if rle_area(each.rle)]
    for each in came:
        if class_names and each.class_name not in class_names:
            raise FormatError(
                f"{corrected.name}: an object of class {each.class_name!r}, but the classes are "
                f"{', '.join(class_names)}; give it one of these in the tool, and export again"
            )
        if each.rle["size"] != [sent.height, sent.width]:
            raise FormatError(
                f"{corrected.name}: a mask of {each.rle['size'][1]} x {each.rle['size'][0]} pixels, but the image that "
                f"was sent has {sent.width} x {sent.height}"
            )
    pairs = _pair(sent.instances, came)
    decisions = [
        _accept(sent.image_id, each, came[pairs[place]])
        if place in pairs
        else Decision(sent.image_id, "reject", each.class_name, each.rle)
        for place, each in enumerate(sent.instances)
    ]
    new = [each for place, each in enumerate(came) if place not in pairs.values()]
    known = {of_new: place for place, of_new in _pair(others, new).items()}
    for place, each in enumerate(new):
        if place in known:
            decisions.append(_accept(sent.image_id, others[known[place]], each))
        else:
            decisions.append(Decision(sent.image_id, "accept", None, None, each.class_name, each.rle))
    # All were made at once: where one object was deleted and its twin made that, the latter is to count.
    return sorted(decisions, key=lambda decision: decision.verdict != "reject")


def _accept(image_id: str, sent: SentInstance, corrected: CorrectedInstance) -> Decision:
    return Decision(
        image_id,
        "accept",
        sent.class_name,
        sent.rle,
        None if corrected.class_name == sent.class_name else corrected.class_name,
        None if is_same_mask(sent.rle, corrected.rle, corrected.outlined) else corrected.rle,
    )


def _pair(sent: Sequence[SentInstance], came: Sequence[CorrectedInstance]) -> dict[int, int]:
    """The place in ``came`` of each of ``sent`` that is there.

    By id; what is left by mask IoU whatever the class, the best pairs first, and of equal ones those of one class.
    Polygons, which have no holes, are compared with the mask without its own too. An id that is there several times,
    since a tool copies it with an object, goes to the mask nearest to the sent one.
    """
    overlaps = mask_iou([each.rle for each in sent], [each.rle for each in came])
    outlined = [column for column, each in enumerate(came) if each.outlined]
    if sent and outlined:
        filled = [mask_to_rle(_filled(rle_to_mask(each.rle)).view(np.bool_)) for each in sent]
        of_filled = mask_iou(filled, [came[column].rle for column in outlined])
        overlaps[:, outlined] = np.maximum(overlaps[:, outlined], of_filled)
    candidates = []
    for row, column in np.ndindex(overlaps.shape):
        overlap, by_id = float(overlaps[row, column]), sent[row].sent_id == came[column].sent_id
        if by_id or overlap >= SAME_OBJECT_IOU:
            other_class = sent[row].class_name != came[column].class_name
            candidates.append((not by_id, -round(overlap, 2), other_class, -overlap, row, column))
    pairs: dict[int, int] = {}
    for *_, row, column in sorted(candidates):
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return pairs


def is_same_mask(sent: Rle, corrected: Rle, outlined: bool = False) -> bool:
    """Whether a mask came back as it was sent, but for what a tool's own conversions do to it.

    Args:
        outlined: it came as polygons: then it may differ along the contour, and holes do not count.
    """
    if mask_iou([sent], [corrected])[0, 0] >= SAME_MASK_IOU:
        return True
    if not outlined:
        return False
    boxes = np.array([rle_box_xyxy(sent), rle_box_xyxy(corrected)]).astype(int)
    (x1, y1), (x2, y2) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    # The border is outside of every mask, as it is to what draws polygons.
    before, after = (_filled(np.pad(rle_to_mask(rle)[y1:y2, x1:x2], 1)) for rle in (sent, corrected))
    inside, outside = _depth(before), _depth(1 - before)
    return bool(np.where(before != after, inside + outside, 0).max() <= OUTLINE_PIXELS)


def _filled(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Without holes."""
    cv2 = opencv()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, cv2.FILLED))


def _depth(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Of each pixel of the mask, the distance to what is none."""
    cv2 = opencv()
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
