"""What a person changed in an annotation tool: the instances that were sent, compared with those that came back.

The readers (``label_studio``, ``cvat``, ``fiftyone``) return ``CorrectedImage``; ``compare`` turns it into decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from labeler.annotation_tools.same_mask import filled, is_same_mask
from labeler.decisions import Decision
from labeler.errors import FormatError
from labeler.files.image_ids import check_image_id
from labeler.geometry.masks import Rle, checked_rle, mask_iou, mask_to_rle, rle_area, rle_to_mask
from labeler.instance_ids import InstanceId
from labeler.opencv import opencv
from labeler.sizes import checked_size, finite_number

OBJECT_ID, FIRST_OBJECT_ID = (
    "labeler_id",
    "sent_id",
)  # attribute with an object's id, today and in the first version
SAME_OBJECT_IOU = 0.5  # from which a mask without an id counts as the one that was sent


@dataclass(frozen=True, slots=True)
class SentInstance:
    """One instance as it was sent to a tool.

    Attributes:
        object_id: what the tool calls it; unique within its image and review set.
        decision: the decision that accepts it as it was sent.
        score: joint score.
    """

    object_id: str
    decision: Decision
    score: float

    @property
    def class_name(self) -> str:
        return self.decision.outcome[0]

    @property
    def rle(self) -> Rle:
        return self.decision.outcome[1]

    def to_row(self) -> dict[str, Any]:
        """The instance as JSON, without the size of its image."""
        decision = self.decision
        return {
            "id": self.object_id,
            "instance": None if decision.instance is None else str(decision.instance),
            "class": decision.class_name,
            "counts": decision.rle and decision.rle["counts"].decode("ascii"),
            "new_class": decision.new_class,
            "new_counts": decision.new_rle and decision.new_rle["counts"].decode("ascii"),
            "score": self.score,
        }

    @classmethod
    def from_row(cls, row: dict[str, Any], image_id: str, width: int, height: int) -> SentInstance:
        """The inverse of ``to_row``.

        Raises:
            KeyError, TypeError, ValueError: ``row`` is not what ``to_row`` makes.
        """
        if not all(isinstance(row[key], str) for key in ("id", "class")):
            raise TypeError("names, classes and ids must be text")
        if not isinstance(row["new_class"], str | None):
            raise TypeError("names, classes and ids must be text")
        rle, new_rle = (
            None if counts is None else checked_rle({"size": [height, width], "counts": counts})
            for counts in (row["counts"], row["new_counts"])
        )
        instance = None if row["instance"] is None else InstanceId.from_text(row["instance"])
        decision = Decision(image_id, "accept", row["class"], rle, row["new_class"], new_rle, instance)
        return cls(row["id"], decision, finite_number(row["score"], "a score"))


@dataclass(frozen=True, slots=True)
class SentImage:
    """One image as it was sent to a tool; ``name`` is its file name there, without folders."""

    image_id: str
    name: str
    width: int
    height: int
    instances: tuple[SentInstance, ...]

    def to_row(self) -> dict[str, Any]:
        """The image as JSON."""
        return {
            "image_id": self.image_id,
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "instances": [each.to_row() for each in self.instances],
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> SentImage:
        """The inverse of ``to_row``.

        Raises:
            FormatError: ``row`` is not what ``to_row`` makes.
        """
        try:
            if not isinstance(row["name"], str):
                raise TypeError("names, classes and ids must be text")
            image_id = check_image_id(row["image_id"])
            width, height = checked_size(row["width"], row["height"])
            instances = (SentInstance.from_row(each, image_id, width, height) for each in row["instances"])
            return cls(image_id, row["name"], width, height, tuple(instances))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            cause = f"{error} is missing" if isinstance(error, KeyError) else error
            raise FormatError(f"not an image of a review set ({cause})") from error


@dataclass(frozen=True, slots=True)
class CorrectedInstance:
    """One object as it came back.

    Attributes:
        object_id: as it was sent, if the tool kept it; empty otherwise.
        outlined: the tool gave polygons, which run a little beside the mask they were made of and lose its holes.
    """

    class_name: str
    rle: Rle
    object_id: str = ""
    outlined: bool = False


@dataclass(frozen=True, slots=True)
class UnreadShape:
    """A shape that came back and is no mask that can be read: a box, a point, a stroke without a label, …

    Attributes:
        kind: what it is, in the tool's words.
        object_id: as in ``CorrectedInstance``.
    """

    kind: str
    object_id: str = ""


@dataclass(frozen=True, slots=True)
class CorrectedImage:
    """One image that a person has looked at.

    Attributes:
        name: what the tool calls the file, perhaps with folders.
    """

    name: str
    instances: tuple[CorrectedInstance, ...]
    unread: tuple[UnreadShape, ...] = ()


def compare(
    sent: SentImage,
    corrected: CorrectedImage,
    others: Sequence[SentInstance] = (),
    class_names: Sequence[str] = (),
    outlines: bool = False,
    exact: bool = False,
) -> list[Decision]:
    """The decisions that a corrected image stands for.

    An instance that came back is accepted, with the class and mask it came back with. One that did not is rejected,
    unless it may be among the shapes that cannot be read, or may be lost because outlines drop it: then there is no
    decision on it. A new object that overlaps one of ``others`` accepts that instance: people draw what they were not
    shown. Any other new object is added.

    Args:
        others: instances of the image that were not sent.
        class_names: the classes there are; empty allows any.
        outlines: the export has outlines in place of masks, and so has lost what is thin.
        exact: any other mask is a change; otherwise, what tools do to masks is none.

    Raises:
        FormatError: an object has an unknown class, or its mask has another size than the image.
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
        _corrected(each, came[pairs[row]], exact) if row in pairs else replace(each.decision, verdict="reject")
        for row, each in enumerate(sent.instances)
        if row in pairs or _is_gone(each, sent, corrected, outlines)
    ]
    new = [each for column, each in enumerate(came) if column not in pairs.values()]
    known = {column: row for row, column in _pair(others, new).items()}
    for column, each in enumerate(new):
        if column in known:
            decisions.append(_corrected(others[known[column]], each, exact))
        else:
            decisions.append(Decision(sent.image_id, "accept", None, None, each.class_name, each.rle))
    # All decisions were made at once. Accepting ones come last: where one of two objects was deleted and the other was
    # made equal to it, the object stays.
    return sorted(decisions, key=lambda decision: decision.verdict != "reject")


def _is_gone(missing: SentInstance, sent: SentImage, corrected: CorrectedImage, outlines: bool) -> bool:
    """Whether an instance that did not come back as a mask was deleted."""
    known = {each.object_id for each in sent.instances}
    empty = {each.object_id for each in corrected.instances if each.outlined and not rle_area(each.rle)}
    unread = {each.object_id for each in corrected.unread} | empty
    # A shape with an id that was not sent may stand for any object: tools lose ids where they convert shapes.
    if missing.object_id in unread or not unread <= known:
        return False
    return not (outlines and _is_thin(missing.rle))


def _is_thin(rle: Rle) -> bool:
    """Whether a rough outline of the mask may have no area: it is nowhere three pixels wide."""
    mask = np.pad(rle_to_mask(rle), 1).view(np.uint8)
    return not opencv().erode(mask, np.ones((3, 3), np.uint8)).any()


def _corrected(sent: SentInstance, corrected: CorrectedInstance, exact: bool) -> Decision:
    decision, class_name = sent.decision, corrected.class_name
    new_class = None if class_name == decision.class_name else class_name
    is_same = sent.rle["counts"] == corrected.rle["counts"]
    if is_same or (not exact and is_same_mask(sent.rle, corrected.rle, corrected.outlined)):
        return replace(decision, new_class=new_class)
    return replace(decision, new_class=new_class, new_rle=corrected.rle)


def _pair(sent: Sequence[SentInstance], came: Sequence[CorrectedInstance]) -> dict[int, int]:
    """Index in ``came`` of each of ``sent`` that came back, by index in ``sent``.

    Objects are paired by id, and the rest by mask IoU whatever their class, the best pairs first; at equal IoU a pair
    of one class goes first. Polygons have no holes, so they are also compared with the mask without its holes. An id
    that occurs several times, because a tool copies it with the object, goes to the mask nearest to the one sent.
    """
    overlaps = mask_iou([each.rle for each in sent], [each.rle for each in came])
    outlined = [column for column, each in enumerate(came) if each.outlined]
    if sent and outlined:
        whole = [mask_to_rle(filled(rle_to_mask(each.rle)).view(np.bool_)) for each in sent]
        of_filled = mask_iou(whole, [came[column].rle for column in outlined])
        overlaps[:, outlined] = np.maximum(overlaps[:, outlined], of_filled)
    candidates = []
    for row, column in np.ndindex(overlaps.shape):
        overlap = float(overlaps[row, column])
        by_id = sent[row].object_id != "" and sent[row].object_id == came[column].object_id
        if by_id or overlap >= SAME_OBJECT_IOU:
            other_class = sent[row].class_name != came[column].class_name
            candidates.append((not by_id, -round(overlap, 2), other_class, -overlap, row, column))
    pairs: dict[int, int] = {}
    for *_, row, column in sorted(candidates):
        if row not in pairs and column not in pairs.values():
            pairs[row] = column
    return pairs
