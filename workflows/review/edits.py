"""What somebody changed in the labels of an image: what an export wrote, compared with what the file holds now.

A changed class, a changed mask and a new object become decisions that accept them, and a deleted object becomes one
that rejects it. In an image with a change, the objects that were left as they were are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from labeler.annotation_tools.corrections import (
    CorrectedImage,
    CorrectedInstance,
    SentImage,
    SentInstance,
    compare,
)
from labeler.annotation_tools.same_mask import is_same_mask
from labeler.decided import Decided
from labeler.decisions import Appearance, Decision
from labeler.formats.label_edits import Label
from labeler.geometry.masks import Rle
from labeler.records import ImageRecord

Drawn = Callable[[Rle], Collection[bytes]]
"""The RLE counts with which a file may hold a mask that nobody has edited: as its format draws it."""


@dataclass(frozen=True)
class WrittenImage:
    """An image as an export wrote it.

    Attributes:
        name: its file name.
        decided: its record, as that export used it.
        exported: indices of the instances that were written, in that order.
    """

    name: str
    decided: Decided
    exported: tuple[int, ...]

    @property
    def kept(self) -> ImageRecord:
        """The record with only the instances that were written."""
        record = self.decided.record
        return replace(record, instances=tuple(record.instances[index] for index in self.exported))

    def instance(self, index: int) -> SentInstance:
        """One of the record's instances; its object id is the index."""
        return SentInstance(str(index), self.decided.decision(index), self.decided.record.instances[index].joint_score)

    @property
    def looks(self) -> frozenset[Appearance]:
        """Classes and masks that were written."""
        return frozenset(map(self.look, self.exported))

    def look(self, index: int) -> Appearance:
        instance = self.decided.record.instances[index]
        return self.decided.class_names[instance.class_id], instance.rle["counts"]


@dataclass(frozen=True)
class Change:
    """What somebody changed in the labels of one image.

    Attributes:
        labels: what the file holds now.
        objects: the same, with the exact masks of instances that the file holds as its format draws them.
        decisions: on what was changed; empty if nothing was.
        as_written: those that accept the other objects as they were written; empty if nothing was changed.
        revived: number of labels that are instances which were not written.
    """

    labels: Sequence[Label]
    objects: Sequence[Label] = ()
    decisions: list[Decision] = field(default_factory=list)
    as_written: list[Decision] = field(default_factory=list)
    revived: int = 0

    @property
    def missing(self) -> int:
        """Number of objects that were written and are gone."""
        return sum(decision.verdict == "reject" for decision in self.decisions)

    def agrees(self, other: Change) -> bool:
        """Whether two files of different formats, which draw masks a little differently, hold the same objects."""
        left = list(other.objects)
        for name, rle in self.objects:
            same = (each for each in left if each[0] == name and is_same_mask(rle, each[1], outlined=True))
            if (partner := next(same, None)) is None:
                return False
            left.remove(partner)
        return not left

    def holds_for_any(self, states: Sequence[WrittenImage]) -> bool:
        """Whether it is a change whatever the file held when it was written, since nothing tells what that was.

        Args:
            states: what the image was after each decision on it.
        """
        return not (self.missing or self.revived) and len({state.looks for state in states}) == 1


UNCHANGED = Change(())


def change_of(image: WrittenImage, labels: Sequence[Label], drawn: Drawn) -> Change:
    """The change from what was written to ``labels``."""
    record, class_names = image.decided.record, image.decided.class_names
    looks = image.looks
    others = [
        index
        for index, each in enumerate(record.instances)
        if index not in image.exported and each.area and image.look(index) not in looks
    ]
    came = _recognised(image, labels, drawn, [list(image.exported), others])
    objects = [(each.class_name, each.rle) for each in came]
    kept = {(each.object_id, each.class_name) for each in came}
    if len(came) == len(kept) and kept == {(str(index), image.look(index)[0]) for index in image.exported}:
        return Change(labels, objects)
    sent = tuple(image.instance(index) for index in image.exported)
    decisions = compare(
        SentImage(record.image_id, image.name, record.width, record.height, sent),
        CorrectedImage(image.name, tuple(came)),
        [image.instance(index) for index in others],
        class_names,
        exact=True,
    )
    known = [each.decision for each in sent]
    changed = [each for each in decisions if each not in known]
    revived = sum(each.object_id in map(str, others) for each in came)
    return Change(labels, objects, changed, [each for each in decisions if each in known], revived)


def _recognised(
    image: WrittenImage, labels: Sequence[Label], drawn: Drawn, groups: Sequence[Sequence[int]]
) -> list[CorrectedInstance]:
    """The labels; those that have the very mask of an instance have its mask and id.

    Args:
        groups: indices of instances; those of an earlier group go first, and of equal masks that of the label's class.
    """
    found: dict[int, int] = {}
    for group in groups:
        masks = {index: drawn(image.decided.record.instances[index].rle) for index in group}
        for same_class in (True, False):
            for place, (name, rle) in enumerate(labels):
                fitting = (
                    index
                    for index in group
                    if index not in found.values()
                    and rle["counts"] in masks[index]
                    and (not same_class or image.look(index)[0] == name)
                )
                if place not in found and (index := next(fitting, None)) is not None:
                    found[place] = index
    return [
        CorrectedInstance(name, image.decided.record.instances[found[place]].rle, str(found[place]))
        if place in found
        else CorrectedInstance(name, rle)
        for place, (name, rle) in enumerate(labels)
    ]
