"""What a person decided on instances, kept apart from the records so that it outlives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from labeler.errors import FormatError
from labeler.files.image_ids import check_image_id
from labeler.geometry.masks import Rle, checked_rle, mask_iou, rle_area, rle_box_xyxy
from labeler.migrations import migrate
from labeler.records import ImageRecord, Instance

Verdict = Literal["accept", "reject", "none"]
# From which IoU on two masks of one class show one object: as COCO and Pascal VOC count a hit. A reject asks for more,
# since it may have been for the mask's sake: a better mask of that object is another matter.
SAME_OBJECT_IOU: dict[str, float] = {"accept": 0.5, "reject": 0.8}
Name = tuple[str | None, bytes]  # class and mask: what an object goes by


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on one instance; a later one on the same instance takes its place.

    Attributes:
        image_id: as in the records.
        verdict: ``none`` takes an earlier decision back.
        class_name, rle: of the instance, as it was shown; None both for an object that a person added.
        new_class, new_rle: what is accepted in their place; None leaves the class or mask as it is.
    """

    image_id: str
    verdict: Verdict
    class_name: str | None
    rle: Rle | None
    new_class: str | None = None
    new_rle: Rle | None = None

    @property
    def key(self) -> tuple[str, str | None, str, bytes]:
        """What it is on; of two decisions with one key the later counts."""
        if self.class_name is None or self.rle is None:
            return self.image_id, None, self.new_class or "", self.new_rle["counts"] if self.new_rle else b""
        return self.image_id, self.class_name, "", self.rle["counts"]

    @property
    def names(self) -> tuple[Name, Name]:
        """Class and mask of the object as it was shown, and as it is left; an added one has the latter alone, twice."""
        rle = self.new_rle or self.rle
        left = self.new_class or self.class_name, rle["counts"] if rle else b""
        return left if self.rle is None else (self.class_name, self.rle["counts"]), left

    def to_row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "image_id": self.image_id,
            "verdict": self.verdict,
            "class": self.class_name,
            "mask": _to_json(self.rle),
            "new_class": self.new_class,
            "new_mask": _to_json(self.new_rle),
        }

    @classmethod
    def from_row(cls, row: Any) -> Decision:
        """The inverse of ``to_row``, for rows of earlier versions too.

        Raises:
            FormatError: ``row`` is not what ``to_row`` makes.
            RunError: it is of a newer version.
        """
        if isinstance(row, dict):
            row = migrate("decisions", row, "a decision")
        try:
            if row["verdict"] not in ("accept", "reject", "none"):
                raise ValueError(f"verdict {row['verdict']!r} is none of accept, reject, none")
            texts = (row["image_id"], *(row.get(key) or "" for key in ("class", "new_class")))
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("image_id, class and new_class must be text")
            check_image_id(row["image_id"])
            for text in texts:
                text.encode()  # half a surrogate pair is no text
            decision = cls(
                row["image_id"],
                row["verdict"],
                row.get("class"),
                _from_json(row.get("mask")),
                row.get("new_class"),
                _from_json(row.get("new_mask")),
            )
            if (decision.class_name is None) != (decision.rle is None):
                raise ValueError("class and mask go together")
            if decision.rle is None and not (decision.new_class and decision.new_rle):
                raise ValueError("an object that was added needs new_class and new_mask")
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            cause = f"{error} is missing" if isinstance(error, KeyError) else error
            raise FormatError(f"not a decision ({cause})") from error
        return decision


@dataclass(frozen=True)
class Decided:
    """A record as a person left it.

    Attributes:
        record: instances keep their places; changed ones are changed, added ones come last.
        verdicts: ``accept`` or ``reject`` of the instances that were decided on, by place.
        matched: the decision behind it, by place, of added instances too: where several are on one object, the first
            one's class and mask with what the last one says of it.
        behind: these several, as they were made, by place.
        unmatched: decisions that no instance fits, or that name a class or size which is not this record's.
    """

    record: ImageRecord
    verdicts: dict[int, Literal["accept", "reject"]] = field(default_factory=dict)
    matched: dict[int, Decision] = field(default_factory=dict)
    behind: dict[int, list[Decision]] = field(default_factory=dict)
    unmatched: list[Decision] = field(default_factory=list)


def latest(decisions: Iterable[Decision]) -> list[Decision]:
    """The last decision of each key, in the order in which they were made."""
    kept: dict[tuple[str, str | None, str, bytes], Decision] = {}
    for decision in decisions:
        kept.pop(decision.key, None)
        kept[decision.key] = decision
    return list(kept.values())


@dataclass(slots=True)
class _Object:
    """What the decisions ``behind`` it, the last of them being the ``number``-th, come to; each name means it."""

    decision: Decision
    behind: list[Decision]
    number: int
    names: set[Name] = field(default_factory=set)

    @property
    def is_added(self) -> bool:
        return any(decision.rle is None for decision in self.behind)


def decide(record: ImageRecord, decisions: Iterable[Decision], class_names: Sequence[str]) -> Decided:
    """``record`` with the decisions on it carried out.

    An object goes by class and mask. A decision that changes these makes both, the old and the new, mean one object.
    The last decision on any of them counts, and it is on all instances that have one of them: the first takes it, the
    others are rejected. So no object is there twice, and none outlives its rejection under a name it had before.

    An object without such an instance is the one of its class whose mask overlaps best, so that decisions outlive
    labeling with other models: by an IoU of 0.5 or more, or of 0.8 if it was rejected. No instance takes two decisions,
    and of two on one instance the earlier is dropped.

    What a person says of a class or mask is certain: scores of changed classes and masks are 1.

    Args:
        record: one image, with its class ids into ``class_names``.
        decisions: on this image, in the order in which they were made.
    """
    ids = {name: class_id for class_id, name in reversed(list(enumerate(class_names)))}
    size = [record.height, record.width]
    fits, unmatched = list[Decision](), list[Decision]()
    for decision in latest(decisions):
        rles = [rle for rle in (decision.rle, decision.new_rle) if rle is not None]
        classes = [name for name in (decision.class_name, decision.new_class) if name is not None]
        if all(name in ids for name in classes) and all(rle["size"] == size for rle in rles):
            fits.append(decision)
        elif decision.verdict != "none":
            unmatched.append(decision)
    objects = _objects(fits)
    if not objects:
        return Decided(record, unmatched=unmatched)
    found = [(class_names[item.class_id], item.rle["counts"]) for item in record.instances]
    unmatched += _match(objects, record.instances, found)
    decided = Decided(record, unmatched=unmatched)
    instances = list(record.instances)
    for each in _distinct(objects):
        decision, places = each.decision, [place for place, name in enumerate(found) if name in each.names]
        if not places and decision.verdict == "accept" and each.is_added:
            places = [len(instances)]
            instances.append(_added(decision, ids))
        decided.matched.update(dict.fromkeys(places, decision))
        decided.behind.update(dict.fromkeys(places, each.behind))
        decided.verdicts.update(dict.fromkeys(places, "reject"))
        if places and decision.verdict == "accept":
            decided.verdicts[places[0]] = "accept"
            for place in places:
                instances[place] = _changed(instances[place], decision, ids)
    return replace(decided, record=replace(record, instances=tuple(instances)))


def distinct(instances: Sequence[Instance], verdicts: Sequence[str]) -> list[int]:
    """The places of the instances that differ in class or mask, as one decision would be on all that do not.

    Args:
        verdicts: on each; of equal instances the accepted one is taken, else one under review, else the first.
    """
    places: dict[tuple[int, bytes], int] = {}
    for place in sorted(range(len(instances)), key=lambda place: ("accept", "review", "reject").index(verdicts[place])):
        places.setdefault((instances[place].class_id, instances[place].rle["counts"]), place)
    return sorted(places.values())


def _objects(decisions: Iterable[Decision]) -> dict[Name, _Object]:
    """The objects that were decided on, by each of their names."""
    objects: dict[Name, _Object] = {}
    for number, decision in enumerate(decisions):
        shown, left = decision.names
        if decision.verdict != "none":
            _name(objects, _Object(decision, [decision], number), shown, left)
        elif shown in objects:
            for name in objects[shown].names:
                del objects[name]
    return objects


def _name(objects: dict[Name, _Object], each: _Object, *names: Name) -> None:
    """Give an object more names; it is one with those that have them."""
    for name in names:
        each.names.add(name)
        known = objects.get(name, each)
        if known is not each:
            first, last = sorted((known, each), key=lambda one: one.number)
            drawn = first.decision.new_rle
            if last.decision.names[0] in first.names:
                last.decision = replace(
                    first.decision,
                    verdict=last.decision.verdict,
                    new_class=last.decision.new_class or last.decision.class_name,
                    new_rle=last.decision.new_rle or drawn,
                )
            elif drawn is not None and drawn["counts"] == last.decision.names[1][1]:
                last.decision = replace(last.decision, new_rle=drawn)
            last.behind = [*first.behind, *last.behind]
            last.names |= first.names
            first.names, each = last.names, last
        objects.update(dict.fromkeys(each.names, each))


def _distinct(objects: dict[Name, _Object]) -> list[_Object]:
    return sorted({each.number: each for each in objects.values()}.values(), key=lambda each: each.number)


def _match(
    objects: dict[Name, _Object], instances: Sequence[Instance], found: Sequence[tuple[str, bytes]]
) -> list[Decision]:
    """Name objects that have no instance like those that they overlap, the best pairs first.

    Args:
        found: the name of each instance.

    Returns:
        What is on none, but for what a later decision on such an instance has put out of date.
    """
    here = frozenset[Name](found)
    lost = [each for each in _distinct(objects) if each.names.isdisjoint(here)]
    shown = [(each, decision.class_name, rle) for each in lost for decision in each.behind if (rle := decision.rle)]
    overlaps = mask_iou([rle for _, _, rle in shown], [item.rle for item in instances])
    for row, (each, own_class, _) in enumerate(shown):
        of_class = np.array([class_name == own_class for class_name, _ in found], np.bool_)
        overlaps[row] *= of_class & (overlaps[row] >= SAME_OBJECT_IOU[each.decision.verdict])
        for place in overlaps[row].nonzero()[0]:
            if objects.get(_left(each.decision, instances[place]), each) is not each:
                overlaps[row, place] = 2.0  # a later decision says what was made of it there: no overlap says more
    pairs = sorted((-overlaps[row, place], row, place) for row, place in np.argwhere(overlaps).tolist())
    for _, row, place in pairs:
        each = shown[row][0]
        if each.names.isdisjoint(here) and found[place] not in objects:
            _name(objects, each, found[place], _left(each.decision, instances[place]))
    newest = np.array([objects[name].number if name in objects else -1 for name in found])
    outdated = {
        id(each)
        for (each, *_), overlap in zip(shown, overlaps, strict=True)
        if (newest[overlap > 0] > each.number).any()
    }
    return [
        each.decision for each in lost if not each.is_added and each.names.isdisjoint(here) and id(each) not in outdated
    ]


def _left(decision: Decision, instance: Instance) -> Name:
    """The name that an instance has when the decision is carried out on it."""
    _, (class_name, _) = decision.names
    return class_name, (decision.new_rle or instance.rle)["counts"]


def _changed(instance: Instance, decision: Decision, ids: dict[str, int]) -> Instance:
    class_name, _ = decision.names[1]
    if class_name is not None and ids[class_name] != instance.class_id:
        instance = replace(instance, class_id=ids[class_name], score=1.0)
    if (rle := decision.new_rle) is not None and rle["counts"] != instance.rle["counts"]:
        instance = replace(
            instance, rle=rle, area=rle_area(rle), box_xyxy=rle_box_xyxy(rle), mask_score=1.0, stability=1.0
        )
    return instance


def _added(decision: Decision, ids: dict[str, int]) -> Instance:
    (class_name, _), rle = decision.names[1], decision.new_rle or decision.rle
    assert class_name is not None
    assert rle is not None
    return Instance(ids[class_name], class_name, rle_box_xyxy(rle), 1.0, 1.0, 1.0, rle_area(rle), rle)


def _to_json(rle: Rle | None) -> dict[str, Any] | None:
    return None if rle is None else {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _from_json(content: Any) -> Rle | None:
    if content is None:
        return None
    return checked_rle(content)
