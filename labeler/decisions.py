"""What a person decided on instances, kept apart from the records so that it outlives them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from labeler.errors import FormatError
from labeler.masks import Rle, mask_iou, rle_area, rle_box_xyxy, rle_runs
from labeler.records import ImageRecord, Instance

Verdict = Literal["accept", "reject", "none"]
SAME_OBJECT_IOU = 0.5  # from which two masks of one class show one object, as COCO and Pascal VOC count a hit


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
        """Raises: FormatError: ``row`` is not what ``to_row`` makes."""
        try:
            if row["verdict"] not in ("accept", "reject", "none"):
                raise ValueError(f"verdict {row['verdict']!r} is none of accept, reject, none")
            texts = (row["image_id"], *(row.get(key) or "" for key in ("class", "new_class")))
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("image_id, class and new_class must be text")
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
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            cause = f"{error} is missing" if isinstance(error, KeyError) else error
            raise FormatError(f"not a decision ({cause})") from error
        return decision


@dataclass(frozen=True)
class Decided:
    """A record as a person left it.

    Attributes:
        record: instances keep their places; changed ones are changed, added ones come last.
        verdicts: ``accept`` or ``reject`` of the instances that were decided on, by place.
        matched: the decision behind it, by place, as it was made; of added instances too.
        unmatched: decisions that no instance fits, or that name a class or size which is not this record's.
    """

    record: ImageRecord
    verdicts: dict[int, Literal["accept", "reject"]] = field(default_factory=dict)
    matched: dict[int, Decision] = field(default_factory=dict)
    unmatched: list[Decision] = field(default_factory=list)


def latest(decisions: Iterable[Decision]) -> list[Decision]:
    """The last decision of each key, in the order in which they were made."""
    kept: dict[tuple[str, str | None, str, bytes], Decision] = {}
    for decision in decisions:
        kept.pop(decision.key, None)
        kept[decision.key] = decision
    return list(kept.values())


def decide(record: ImageRecord, decisions: Iterable[Decision], class_names: Sequence[str]) -> Decided:
    """``record`` with the decisions on it carried out.

    A decision is on the instance of its class with its very mask; else on the one whose mask overlaps best, by an IoU
    of 0.5 or more, so that it outlives labeling with other models. No instance takes two decisions, and of two on one
    instance the earlier is dropped. It may also be on what an earlier decision made of an instance. Equal masks of one
    class are one object: the first takes the decision, the others are rejected.

    What a person says of a class or mask is certain: scores of changed classes and masks are 1.

    Args:
        record: one image, with its class ids into ``class_names``.
        decisions: on this image, in the order in which they were made.
    """
    standing = _standing(record, list(decisions), class_names)
    if not standing:
        return Decided(record)
    ids = {name: class_id for class_id, name in reversed(list(enumerate(class_names)))}
    size = [record.height, record.width]
    fits: list[Decision] = []
    decided = Decided(record)
    for decision in standing:
        rles = [rle for rle in (decision.rle, decision.new_rle) if rle is not None]
        names = [name for name in (decision.class_name, decision.new_class) if name is not None]
        known = all(name in ids for name in names) and all(rle["size"] == size for rle in rles)
        (fits if known else decided.unmatched).append(decision)
    instances = list(record.instances)
    places = _match([d for d in fits if d.rle is not None], instances, class_names, decided.unmatched)
    for place, decision in places.items():
        verdict: Literal["accept", "reject"] = "accept" if decision.verdict == "accept" else "reject"
        twins = [
            index
            for index, item in enumerate(record.instances)
            if index not in places and _is_same(item, record.instances[place])
        ]
        decided.matched[place] = decision
        decided.verdicts.update({place: verdict, **dict.fromkeys(twins, "reject")})
        if verdict == "accept":
            instances[place] = _changed(instances[place], decision, ids)
    for decision in fits:
        if decision.rle is None and decision.new_rle is not None and decision.new_class is not None:
            decided.matched[len(instances)] = decision
            decided.verdicts[len(instances)] = "accept"
            instances.append(_added(decision.new_class, ids[decision.new_class], decision.new_rle))
    return replace(decided, record=replace(record, instances=tuple(instances)))


def _standing(record: ImageRecord, decisions: list[Decision], class_names: Sequence[str]) -> list[Decision]:
    """The decisions that are not taken back; one on what an earlier one made is joined with that."""
    if not decisions:
        return []
    found = {(class_names[item.class_id], item.rle["counts"]) for item in record.instances}
    kept: dict[tuple[str, str | None, str, bytes], Decision] = {}
    made: dict[tuple[str | None, bytes], Decision] = {}
    for decision in decisions:
        rle = decision.rle
        origin = None
        if rle is not None and (shown := (decision.class_name, rle["counts"])) not in found:
            origin = made.get(shown)
        if origin is not None:
            decision = replace(
                origin,
                verdict=decision.verdict,
                new_class=decision.new_class or origin.new_class,
                new_rle=decision.new_rle or origin.new_rle,
            )
            if origin.rle is None:
                kept.pop(origin.key, None)  # an added object has the key of what it is
        kept.pop(decision.key, None)
        kept[decision.key] = decision
        if (made_rle := decision.new_rle or decision.rle) is not None and (decision.new_class or decision.new_rle):
            made[decision.new_class or decision.class_name, made_rle["counts"]] = decision
    return [
        decision
        for decision in kept.values()
        if decision.verdict == "accept" or (decision.verdict == "reject" and decision.rle is not None)
    ]


def _match(
    decisions: list[Decision], instances: Sequence[Instance], class_names: Sequence[str], unmatched: list[Decision]
) -> dict[int, Decision]:
    """The decision on each instance that has one, by place; those that find none are added to ``unmatched``."""
    taken: dict[int, int] = {}  # place: number of the decision
    places: dict[tuple[str, bytes], int] = {}
    for place, item in reversed(list(enumerate(instances))):
        places[class_names[item.class_id], item.rle["counts"]] = place
    left = []
    for number, decision in enumerate(decisions):
        assert decision.class_name is not None
        assert decision.rle is not None
        place_of = places.get((decision.class_name, decision.rle["counts"]))
        if place_of is None:
            left.append(number)
        else:
            taken[place_of] = number
    overlaps = mask_iou([decisions[n].rle for n in left], [item.rle for item in instances])  # type: ignore[misc]
    for row, number in enumerate(left):
        other = [class_names[item.class_id] != decisions[number].class_name for item in instances]
        overlaps[row, other] = 0
    free = overlaps.copy()
    free[:, list(taken)] = 0
    while free.size and free.max() >= SAME_OBJECT_IOU:
        row, place = map(int, np.unravel_index(free.argmax(), free.shape))
        taken[place] = left[row]
        free[row], free[:, place] = 0, 0
    for row, number in enumerate(left):
        rivals = (taken.get(int(place), -1) for place in np.flatnonzero(overlaps[row] >= SAME_OBJECT_IOU))
        if all(rival < number for rival in rivals):  # else it found an instance, or a later one was made on that
            unmatched.append(decisions[number])
    return {place: decisions[number] for place, number in sorted(taken.items())}


def _is_same(one: Instance, other: Instance) -> bool:
    return one.class_id == other.class_id and one.rle["counts"] == other.rle["counts"]


def _changed(instance: Instance, decision: Decision, ids: dict[str, int]) -> Instance:
    if decision.new_class is not None and ids[decision.new_class] != instance.class_id:
        instance = replace(instance, class_id=ids[decision.new_class], score=1.0)
    if (rle := decision.new_rle) is not None and rle["counts"] != instance.rle["counts"]:
        instance = replace(
            instance, rle=rle, area=rle_area(rle), box_xyxy=rle_box_xyxy(rle), mask_score=1.0, stability=1.0
        )
    return instance


def _added(class_name: str, class_id: int, rle: Rle) -> Instance:
    return Instance(class_id, class_name, rle_box_xyxy(rle), 1.0, 1.0, 1.0, rle_area(rle), rle)


def _to_json(rle: Rle | None) -> dict[str, Any] | None:
    return None if rle is None else {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def _from_json(content: Any) -> Rle | None:
    if content is None:
        return None
    height, width = content["size"]
    rle: Rle = {"size": [int(height), int(width)], "counts": content["counts"].encode("ascii")}
    rle_runs(rle)
    return rle
