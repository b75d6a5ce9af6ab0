"""What people's decisions make of an image's record.

A decision finds its instance by id, as long as the record is the one it was made on. Otherwise it finds it by class and
mask: exactly, or after the image was labeled with other models, by the overlap of masks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from labeler.decisions import Appearance, Decision, Verdict, latest
from labeler.geometry.masks import Rle, mask_iou, rle_area, rle_box_xyxy
from labeler.instance_ids import InstanceId
from labeler.records import ImageRecord, Instance, instance_ids

# Mask IoU from which an instance of the same class is the object that was decided on before it was labeled again: COCO
# and Pascal VOC count a match from 0.5. A reject needs more: it may have been meant for a bad mask, not for the object.
SAME_OBJECT_IOU: dict[str, float] = {"accept": 0.5, "reject": 0.8}


@dataclass(frozen=True)
class Decided:
    """A record after people's decisions.

    Attributes:
        labeled: the record before them.
        record: instances keep their index; changed ones are changed, and objects that people added come last.
        class_names: those that the class ids of both records index.
        verdicts: ``accept`` or ``reject``, by index of the instances that were decided on.
        outcomes: class and mask that those instances were given, also of rejected ones.
        decisions: all decisions behind each of them, in the order they were made.
        unmatched: decisions that fit no instance, or name a class or image size that is not this record's.
    """

    labeled: ImageRecord
    record: ImageRecord
    class_names: Sequence[str]
    verdicts: dict[int, Literal["accept", "reject"]] = field(default_factory=dict)
    outcomes: dict[int, tuple[str, Rle]] = field(default_factory=dict)
    decisions: dict[int, list[Decision]] = field(default_factory=dict)
    unmatched: list[Decision] = field(default_factory=list)

    def decision(
        self, index: int, verdict: Verdict = "accept", class_name: str | None = None, rle: Rle | None = None
    ) -> Decision:
        """A new decision on the instance at ``index`` of ``record``.

        Args:
            class_name, rle: what the instance is accepted with; None for what ``record`` has.
        """
        now = self.record.instances[index]
        class_name, rle = class_name or self.class_names[now.class_id], rle or now.rle
        # An added object is not in the labeled record: decisions on it name the class and mask that it was given.
        before = self.labeled.instances[index] if index < len(self.labeled.instances) else now
        own_class = self.class_names[before.class_id]
        return Decision(
            self.record.image_id,
            verdict,
            own_class,
            before.rle,
            None if class_name == own_class else class_name,
            None if rle["counts"] == before.rle["counts"] else rle,
            instance_ids(self.record)[index],
        )


def decide(record: ImageRecord, decisions: Iterable[Decision], class_names: Sequence[str]) -> Decided:
    """Apply ``decisions`` to ``record``.

    The last decision on an instance counts. Instances with the same class and mask, as labeled or as a person left
    them, are one object: the last decision on any of them counts for all. If it accepts, one of them is accepted and
    the others are rejected, so that no object is in the dataset twice.

    A decision whose instance is not in the record any more goes to the instance of its class whose mask overlaps most,
    from a mask IoU of 0.5, or of 0.8 if it rejects. Each instance gets at most one decision this way, and none if a
    decision is on it already.

    People are certain: the scores of a class or mask that a person gave are 1.

    Args:
        record: one image; its class ids index ``class_names``.
        decisions: all that were made on this image, in order.
    """
    class_ids = {name: class_id for class_id, name in reversed(list(enumerate(class_names)))}
    size = [record.height, record.width]
    fitting, misfits = list[Decision](), list[Decision]()
    for decision in decisions:
        rles = [rle for rle in (decision.rle, decision.new_rle) if rle is not None]
        names = [name for name in (decision.class_name, decision.new_class) if name is not None]
        fits = all(name in class_ids for name in names) and all(rle["size"] == size for rle in rles)
        (fitting if fits else misfits).append(decision)
    unmatched = [decision for decision in latest(misfits) if decision.verdict != "none"]
    decided = Decided(record, record, class_names, unmatched=unmatched)
    if not fitting:
        return decided
    looks = [(class_names[item.class_id], item.rle["counts"]) for item in record.instances]
    objects = _united(_objects(fitting, record, looks))
    decided.unmatched.extend(_find_again(objects, record.instances, looks))
    instances = list(record.instances)
    for each in _united(objects):
        indices = sorted(
            (index for index, look in enumerate(looks) if look in each.looks), key=lambda index: index != each.named
        )
        accepts = each.decision.verdict == "accept"
        class_name, rle = each.decision.outcome
        if accepts and each.is_added and not indices:
            indices = [len(instances)]
            box, area = rle_box_xyxy(rle), rle_area(rle)
            instances.append(Instance(class_ids[class_name], class_name, box, 1.0, 1.0, 1.0, area, rle))
        for index in indices:
            decided.verdicts[index] = "accept" if accepts and index == indices[0] else "reject"
            decided.outcomes[index], decided.decisions[index] = (class_name, rle), each.behind
            if accepts:
                instances[index] = _changed(instances[index], class_ids[class_name], rle)
    return replace(decided, record=replace(record, instances=tuple(instances)))


def distinct(instances: Sequence[Instance], verdicts: Sequence[str]) -> list[int]:
    """Indices of one instance for each class and mask, since a decision on it holds for its equals too.

    Args:
        verdicts: one per instance; of equal instances the accepted one is taken, else one under review, else the first.
    """
    first: dict[tuple[int, bytes], int] = {}
    for index in sorted(range(len(instances)), key=lambda index: ("accept", "review", "reject").index(verdicts[index])):
        first.setdefault((instances[index].class_id, instances[index].rle["counts"]), index)
    return sorted(first.values())


@dataclass(slots=True, eq=False)
class _Object:
    """An object that was decided on.

    Attributes:
        decision: the last one, expressed as a decision on the instance in the record, whatever was shown to the person.
        number: its position among all decisions.
        index: of that instance in the record; None if it is not there.
        named: the same, if the decision names it by its id.
        behind: the decisions that led to it, as they were made.
        looks: the appearances that mean this object: what was decided on, and what it was left as.
    """

    decision: Decision
    number: int
    index: int | None
    named: int | None
    behind: list[Decision]
    looks: set[Appearance]

    @property
    def is_added(self) -> bool:
        return any(decision.rle is None for decision in self.behind)


def _objects(decisions: Sequence[Decision], record: ImageRecord, looks: Sequence[Appearance]) -> list[_Object]:
    """What the decisions come to, one after the other; without the objects whose decisions were taken back."""
    first = {look: index for index, look in reversed(list(enumerate(looks)))}
    numbers = {id_: index for index, id_ in enumerate(instance_ids(record))}
    known: dict[int | Appearance, _Object] = {}  # by index in the record and by appearance; the latest that has it
    objects: dict[_Object, None] = {}
    for number, decision in enumerate(decisions):
        subject, named = decision.subject, _named(decision, numbers, looks)
        index = first.get(subject) if named is None and subject not in known else named
        before = known.get(subject if index is None else index)
        each = _Object(decision, number, index, named, [decision], decision.looks)
        if before is not None:
            del objects[before]
            for key in (before.index, *before.looks):
                if key is not None and known.get(key) is before:
                    del known[key]
            each.index = before.index
            if before.decision.subject != subject or (before.is_added and decision.rle is not None):
                # It was made on what the decision before had left of the instance.
                each.decision = _on_instance(decision, before.decision)
                each.behind, each.looks = [*before.behind, decision], before.looks | each.decision.looks
                each.named = before.named if named is None else named
        if decision.verdict != "none":
            objects[each] = None
            known.update(dict.fromkeys(each.looks, each))
            if each.index is not None:
                known[each.index] = each
    return list(objects)


def _named(decision: Decision, numbers: Mapping[InstanceId, int], looks: Sequence[Appearance]) -> int | None:
    """Index of the instance that a decision names by its id, if that is what the record still has there."""
    index = None if decision.instance is None else numbers.get(decision.instance)
    return index if index is not None and looks[index] == decision.subject else None


def _on_instance(decision: Decision, before: Decision) -> Decision:
    """A decision on what ``before`` left, expressed as one on the instance that ``before`` is on."""
    return replace(
        before,
        verdict=decision.verdict,
        new_class=decision.new_class or decision.class_name,
        new_rle=decision.new_rle or before.new_rle,
    )


def _moved(decision: Decision, class_name: str, rle: Rle) -> Decision:
    """A decision expressed as one on another instance, with that one's mask unless a person drew one."""
    return replace(decision, class_name=class_name, rle=rle, new_class=decision.outcome[0])


def _united(objects: Iterable[_Object]) -> list[_Object]:
    """Objects that share an appearance become one, with the last decision on any of them; ordered by that decision."""
    known: dict[Appearance, _Object] = {}
    for each in sorted(objects, key=lambda each: each.number):
        for look in tuple(each.looks):
            other = known.get(look, each)
            if other is not each:
                each.looks |= other.looks
                each.behind = [*other.behind, *each.behind]
                known.update(dict.fromkeys(other.looks, each))
        known.update(dict.fromkeys(each.looks, each))
    return sorted(set(known.values()), key=lambda each: each.number)


def _find_again(
    objects: Sequence[_Object], instances: Sequence[Instance], looks: Sequence[Appearance]
) -> list[Decision]:
    """Give objects that are not in the record the instances that they overlap, the best pairs first.

    Returns:
        Decisions that are on no instance, except those that a later decision has made obsolete.
    """
    lost = [each for each in objects if not each.is_added and each.looks.isdisjoint(looks)]
    rows = [(each, was.class_name, rle) for each in lost for was in each.behind if (rle := was.rle) is not None]
    known = {look: each for each in objects for look in each.looks}
    pairs, candidates = list[tuple[float, int, _Object]](), defaultdict[_Object, list[int]](list)
    overlaps = mask_iou([rle for _, _, rle in rows], [item.rle for item in instances])
    for (each, own_class, _), row in zip(rows, overlaps.tolist(), strict=True):
        for index, ((class_name, _), overlap) in enumerate(zip(looks, row, strict=True)):
            if class_name == own_class and overlap >= SAME_OBJECT_IOU[each.decision.verdict]:
                candidates[each].append(index)
                pairs.append((-overlap, index, each))
                # A later decision may be on what this one made of that instance. It says more than any overlap.
                for look in _moved(each.decision, class_name, instances[index].rle).looks:
                    if (later := known.get(look, each)).number > each.number:
                        pairs.append((-2.0, index, later))
    for _, index, each in sorted(pairs, key=lambda pair: (pair[0], pair[2].number, pair[1])):
        if looks[index] not in known and each.looks.isdisjoint(looks):
            each.decision = _moved(each.decision, looks[index][0], instances[index].rle)
            each.looks |= each.decision.looks
            known.update(dict.fromkeys(each.looks, each))

    def is_obsolete(each: _Object) -> bool:
        return any(looks[index] in known and known[looks[index]].number > each.number for index in candidates[each])

    return [each.behind[-1] for each in lost if each.looks.isdisjoint(looks) and not is_obsolete(each)]


def _changed(instance: Instance, class_id: int, rle: Rle) -> Instance:
    """The instance with the class and mask that a person gave it."""
    if class_id != instance.class_id:
        instance = replace(instance, class_id=class_id, score=1.0, agreement=1.0)
    if rle["counts"] != instance.rle["counts"]:
        box, area = rle_box_xyxy(rle), rle_area(rle)
        instance = replace(instance, rle=rle, area=area, box_xyxy=box, mask_score=1.0, stability=1.0, agreement=1.0)
    return instance
