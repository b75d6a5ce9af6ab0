"""What decisions make of a record whose masks are rectangles, with overlaps known by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labeler.decided import decide, distinct
from labeler.decisions import Decision
from labeler.geometry.masks import Rle, mask_to_rle
from labeler.instance_ids import InstanceId
from labeler.quality import Judgement, judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

NAMES = ("dog", "cat")
CLASSES = tuple(map(ClassSpec, NAMES))
HEIGHT, WIDTH = 40, 100
DIGEST = "0123abcd"


def mask(x: int, width: int = 20, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Rle:
    """Rows 10 to 29, ``width`` columns from ``x``."""
    pixels = np.zeros(size, dtype=bool)
    pixels[10:30, x : x + width] = True
    return mask_to_rle(pixels)


def instance(x: int, width: int = 20, **values: Any) -> Instance:
    fields: dict[str, Any] = {"class_id": 0, "prompt": "puppy", "box_xyxy": (x, 10, x + width, 30)}
    fields |= {"score": 0.5, "mask_score": 0.8, "stability": 0.9, "area": 20 * width, "rle": mask(x, width)}
    return Instance(**fields | values)


def record(*instances: Instance) -> ImageRecord:
    return ImageRecord("a.png", WIDTH, HEIGHT, DIGEST, instances=instances)


def on(x: int, verdict: Any = "accept", width: int = 20, name: str = "dog", **values: Any) -> Decision:
    return Decision("a.png", verdict, name, mask(x, width), **values)


def added(x: int, verdict: Any = "accept", name: str = "cat") -> Decision:
    return Decision("a.png", verdict, None, None, name, mask(x))


def test_without_decisions_nothing_happens() -> None:
    given = record(instance(0))
    decided = decide(given, [], NAMES)
    assert decided.record is given
    assert (decided.verdicts, decided.unmatched) == ({}, [])


@pytest.mark.parametrize(
    ("instances", "decision", "place"),
    [
        ([instance(0), instance(40)], on(40), 1),  # its very mask
        ([instance(0, class_id=1), instance(0)], on(0), 1),  # of its class only
        ([instance(0, class_id=1)], on(0), None),
        # other masks, as other models make them: 20 columns against others
        ([instance(0)], on(2), 0),  # 18 shared of 22: 0.818
        ([instance(0)], on(7), None),  # 13 of 27: 0.481
        ([instance(0), instance(3)], on(2), 1),  # 0.818 against 19 of 21: 0.905
        ([instance(0, 25)], on(0), 0),  # just 0.8
        ([], on(0), None),
    ],
)
@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_an_instance_is_found_by_class_and_mask(
    instances: list[Instance], decision: Decision, place: int | None, verdict: Any
) -> None:
    decision = replace(decision, verdict=verdict)
    decided = decide(record(*instances), [decision], NAMES)
    assert decided.verdicts == ({} if place is None else {place: verdict})
    assert decided.decisions == ({} if place is None else {place: [decision]})
    assert decided.unmatched == ([decision] if place is None else [])
    assert decided.record == record(*instances)


@pytest.mark.parametrize(
    ("item", "decision"),
    [
        (instance(0), on(5)),  # 15 shared of 25: 0.6
        (instance(0), on(6)),  # 14 of 26: 0.538
        (instance(0, 40), on(0)),  # just 0.5
        (instance(0, 26), on(0)),  # 0.769
    ],
)
def test_a_reject_may_have_been_for_the_masks_sake(item: Instance, decision: Decision) -> None:
    """Half an object, once rejected, says nothing against the whole that other models find."""
    assert decide(record(item), [decision], NAMES).verdicts == {0: "accept"}
    rejected = replace(decision, verdict="reject")
    decided = decide(record(item), [rejected], NAMES)
    assert (decided.verdicts, decided.unmatched) == ({}, [rejected])


def test_an_exact_mask_goes_before_a_better_place_in_line() -> None:
    """The first decision overlaps both; the second is on one of them exactly."""
    near, exact = on(2), on(0, "reject")
    decided = decide(record(instance(0), instance(6)), [near, exact], NAMES)
    assert decided.decisions == {0: [exact], 1: [near]}


def test_one_decision_takes_one_instance() -> None:
    decided = decide(record(instance(0), instance(4)), [on(2)], NAMES)
    assert list(decided.verdicts) == [0]
    first, second = on(3), on(1, "reject")  # IoU with the one instance: 17 of 23, 19 of 21
    decided = decide(record(instance(0)), [second, first], NAMES)
    assert decided.decisions == {0: [second]}
    assert decided.unmatched == [first]


def test_the_later_of_two_on_one_instance_counts() -> None:
    assert decide(record(instance(0)), [on(0), on(0, "reject")], NAMES).verdicts == {0: "reject"}
    # the earlier was made on another model's mask: it is out of date, not lost
    decided = decide(record(instance(0)), [on(2), on(0, "reject")], NAMES)
    assert (decided.verdicts, decided.unmatched) == ({0: "reject"}, [])


def test_none_takes_back() -> None:
    decided = decide(record(instance(0)), [on(0, "reject"), on(0, "none"), on(60, "none")], NAMES)
    assert (decided.verdicts, decided.unmatched) == ({}, [])
    assert decide(record(), [added(0), added(0, "none")], NAMES).record == record()


def test_class_and_mask_are_changed_and_then_certain() -> None:
    decision = on(0, new_class="cat", new_rle=mask(2, 10))
    (changed,) = decide(record(instance(0)), [decision], NAMES).record.instances
    assert changed == Instance(1, "puppy", (2, 10, 12, 30), 1.0, 1.0, 1.0, 200, mask(2, 10))
    (recast,) = decide(record(instance(0)), [on(0, new_class="cat")], NAMES).record.instances
    assert recast == replace(instance(0), class_id=1, score=1.0)
    (same,) = decide(record(instance(0)), [on(0, new_class="dog", new_rle=mask(0))], NAMES).record.instances
    assert same == instance(0)
    rejected = decide(record(instance(0)), [replace(decision, verdict="reject")], NAMES)
    assert rejected.record == record(instance(0))


def test_an_added_object_comes_last() -> None:
    decided = decide(record(instance(0)), [added(40), on(0, "reject")], NAMES)
    assert decided.record.instances[1] == Instance(1, "cat", (40, 10, 60, 30), 1.0, 1.0, 1.0, 400, mask(40))
    assert decided.verdicts == {0: "reject", 1: "accept"}
    assert len(decide(record(), [added(40), added(40)], NAMES).record.instances) == 1
    # also where it is what was rejected when a model found it
    decided = decide(record(), [on(40, "reject", name="cat"), added(40)], NAMES)
    assert (len(decided.record.instances), decided.unmatched) == (1, [])
    assert decide(record(instance(40, class_id=1)), [added(40)], NAMES).verdicts == {0: "accept"}


@pytest.mark.parametrize("later", [on(0, "reject", name="cat"), on(0, "none", name="cat")])
def test_a_decision_on_what_an_earlier_one_made(later: Decision) -> None:
    """A page shows the instance as it was left: its row names the new class and mask."""
    relabeled = on(40, new_class="cat", new_rle=mask(0))
    decided = decide(record(instance(40)), [relabeled, later], NAMES)
    assert decided.record == record(instance(40))
    assert decided.verdicts == ({0: "reject"} if later.verdict == "reject" else {})
    assert decided.unmatched == []
    assert decide(record(), [added(0), later], NAMES).record == record()
    back = on(0, name="cat", new_class="dog")
    (item,) = decide(record(), [added(0), back], NAMES).record.instances
    assert (item.class_id, item.rle) == (0, mask(0))


# ---------------------------------------------------------------- by id


def by_id(index: int, decision: Decision, digest: str = DIGEST) -> Decision:
    return replace(decision, instance=InstanceId(digest, index))


def test_an_id_says_which_of_equal_instances_is_meant() -> None:
    equal = record(instance(0, score=0.9), instance(40), instance(0, score=0.4))
    assert decide(equal, [on(0)], NAMES).verdicts == {0: "accept", 2: "reject"}
    assert decide(equal, [by_id(2, on(0))], NAMES).verdicts == {0: "reject", 2: "accept"}
    assert decide(equal, [by_id(2, on(0)), by_id(0, on(0))], NAMES).verdicts == {0: "accept", 2: "reject"}


def test_two_decisions_on_overlapping_instances_of_a_class_stay_apart() -> None:
    """Their IoU is 0.9, above what finds an object again."""
    given = record(instance(0), instance(1))
    first, second = by_id(0, on(0, "reject")), by_id(1, on(1, new_class="cat"))
    for decisions in ([first, second], [second, first]):
        decided = decide(given, decisions, NAMES)
        assert decided.decisions == {0: [first], 1: [second]}
        assert decided.verdicts == {0: "reject", 1: "accept"}
    # labeled anew with masks that overlap both: each goes to the nearer
    again = decide(record(instance(2), instance(-1 % WIDTH, 20), instance(0, 19)), [first, second], NAMES)
    assert again.verdicts == {0: "accept", 2: "reject"}


def test_an_id_counts_only_where_class_and_mask_agree() -> None:
    """After labeling anew, the same image has another instance at that index."""
    decision = by_id(0, on(0, "reject"))
    for other in (instance(40), instance(0, class_id=1)):
        decided = decide(record(other, instance(2)), [decision], NAMES)
        assert decided.verdicts == {1: "reject"}
    assert decide(record(instance(40), instance(0)), [decision], NAMES).verdicts == {1: "reject"}
    assert decide(record(instance(40)), [decision], NAMES).unmatched == [decision]
    # a decision of before and one of now may then have the same id
    now = by_id(0, on(40))
    decided = decide(record(instance(40), instance(2)), [decision, now], NAMES)
    assert decided.verdicts == {0: "accept", 1: "reject"}
    beyond = by_id(7, on(0))
    assert decide(record(instance(0)), [beyond], NAMES).verdicts == {0: "accept"}


def test_content_that_has_changed_is_matched_by_mask() -> None:
    """As a photo that was rotated there and back: other bytes, the same picture."""
    equal = record(instance(0), instance(0))
    assert decide(equal, [by_id(1, on(0), digest="ffff")], NAMES).verdicts == {0: "accept", 1: "reject"}
    assert decide(record(instance(2)), [by_id(0, on(0), digest="ffff")], NAMES).verdicts == {0: "accept"}


def test_decisions_of_the_first_version_and_those_with_ids_are_on_the_same_object() -> None:
    for rows in ([on(0), by_id(0, on(0, "reject"))], [by_id(0, on(0)), on(0, "reject")]):
        decided = decide(record(instance(0)), rows, NAMES)
        assert (decided.verdicts, decided.decisions) == ({0: "reject"}, {0: rows[1:]})
    assert decide(record(instance(0)), [by_id(0, on(0)), on(0, "none")], NAMES).verdicts == {}


def test_a_new_decision_is_on_the_instance_in_the_record() -> None:
    """Whatever it has become; so it finds the object again however often it was changed."""
    given = record(instance(0), instance(40))
    decided = decide(given, [on(40, new_class="cat", new_rle=mask(42))], NAMES)
    again = decided.decision(1)
    assert again == by_id(1, on(40, new_class="cat", new_rle=mask(42)))
    assert decided.decision(1, class_name="dog", rle=mask(40)) == by_id(1, on(40))
    assert decided.decision(0, "reject") == by_id(0, on(0, "reject"))
    shifted = record(instance(41))
    for decisions in ([again], [on(40, new_class="cat", new_rle=mask(42)), replace(again, verdict="reject")]):
        assert decide(shifted, decisions, NAMES).verdicts == {0: decisions[-1].verdict}


def test_an_added_object_is_changed_rejected_and_taken_back() -> None:
    """Its index follows those of the record, and shifts when another added object goes: its mask finds it."""
    decided = decide(record(instance(0)), [added(40), added(70)], NAMES)
    last = decided.decision(2)
    assert last == by_id(2, on(70, name="cat"))
    for decision, class_ids in (
        (last, [0, 1, 1]),
        (decided.decision(2, class_name="dog"), [0, 1, 0]),
        (decided.decision(2, "reject"), [0, 1]),
        (decided.decision(2, "none"), [0, 1]),
    ):
        decisions = [added(40), added(70), decision]
        left = decide(record(instance(0)), decisions, NAMES)
        assert [each.class_id for each in left.record.instances] == class_ids
        assert left.unmatched == []
        without = decide(record(instance(0)), [*decisions, added(40, "none")], NAMES)
        assert [each.class_id for each in without.record.instances] == [0, *class_ids[2:]]


BOTH = record(instance(0), instance(0, class_id=1))  # one mask often is found under two classes
TO_CAT = on(0, new_class="cat")


@pytest.mark.parametrize(
    ("decisions", "accepted", "rejected"),
    [
        ([on(0, "reject")], [], 1),  # it is no dog, and may be a cat
        ([on(0), on(0, name="cat")], [0, 1], 0),  # it is both
        ([TO_CAT], [1], 1),
        ([TO_CAT, on(0, name="cat")], [1], 1),
        ([on(0, name="cat"), TO_CAT], [1], 1),
        ([TO_CAT, on(0, "reject", name="cat")], [], 2),
        ([on(0, "reject", name="cat"), TO_CAT], [1], 1),
        ([TO_CAT, on(0, "none", name="cat")], [], 0),
        ([on(0, name="cat"), TO_CAT, on(0, "none")], [1], 0),
        ([TO_CAT, on(0, name="cat", new_class="dog")], [0], 1),
    ],
)
@pytest.mark.parametrize("given", [BOTH, replace(BOTH, instances=BOTH.instances[::-1])], ids=["dog first", "cat first"])
def test_a_changed_object_is_one_with_what_was_found_there(
    decisions: list[Decision], accepted: list[int], rejected: int, given: ImageRecord
) -> None:
    decided = decide(given, decisions, NAMES)
    by_hand = decided.verdicts.items()
    assert sorted(decided.record.instances[at].class_id for at, each in by_hand if each == "accept") == accepted
    assert sum(each == "reject" for _, each in by_hand) == rejected
    assert decided.decisions.keys() == decided.verdicts.keys()
    assert decided.unmatched == []


def test_a_decision_on_what_an_earlier_one_made_of_another_models_instance() -> None:
    """Relabeled, labeled anew with other models, shown with their mask under the new class, and then decided on."""
    for given in (record(instance(2)), record(instance(2), instance(2, class_id=1))):
        shown = decide(given, [TO_CAT], NAMES)
        assert (shown.record.instances[0].class_id, shown.verdicts[0]) == (1, "accept")
        rejected = decide(given, [TO_CAT, on(2, "reject", name="cat")], NAMES)
        assert set(rejected.verdicts.values()) == {"reject"}
        assert len(rejected.verdicts) == len(given.instances)
        assert rejected.unmatched == []
        accepted = decide(given, [TO_CAT, on(2, name="cat")], NAMES)
        assert (accepted.record, accepted.verdicts) == (shown.record, shown.verdicts)
    # another of the new class near it is not what was decided on
    decided = decide(record(instance(3, class_id=1), instance(2)), [TO_CAT, on(2, "reject", name="cat")], NAMES)
    assert (decided.verdicts, decided.unmatched) == ({1: "reject"}, [])
    # the relabeled one where it was is no other object
    decided = decide(BOTH, [on(2, new_class="cat")], NAMES)
    assert decided.verdicts == {0: "accept", 1: "reject"}


def test_of_two_that_were_made_one_the_last_ones_mask_counts() -> None:
    """The first is drawn anew as the second was found, and the second relabeled as the first was."""
    given = record(instance(0), instance(5))
    decided = decide(given, [on(0, new_class="cat", new_rle=mask(5)), on(5, new_class="cat")], NAMES)
    assert decided.verdicts == {0: "accept", 1: "reject"}
    assert [(each.class_id, each.rle) for each in decided.record.instances] == [(1, mask(5))] * 2


def test_what_was_drawn_and_relabeled_to_and_fro_is_found_again() -> None:
    """The row that made it a cat is gone, replaced by the last one on the same class and mask."""
    drawn = on(0, new_rle=mask(1))
    rows = [drawn, on(1, new_class="cat"), on(1, name="cat", new_class="dog"), on(1)]
    for item in (instance(0), instance(4)):  # of other models: IoU 16 of 24 with what was shown first
        decided = decide(record(item), rows, NAMES)
        assert (decided.record.instances[0].class_id, decided.record.instances[0].rle) == (0, mask(1))
        assert (decided.verdicts, decided.unmatched) == ({0: "accept"}, [])


def test_instances_of_one_class_and_mask_are_shown_once() -> None:
    items = [instance(0), instance(0, class_id=1), instance(0), instance(5), instance(0)]
    assert distinct(items, ["reject", "review", "accept", "reject", "review"]) == [1, 2, 3]
    assert distinct(items, ["reject"] * 5) == [0, 1, 3]


@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_equal_masks_of_a_class_are_one_object(verdict: Any) -> None:
    decided = decide(record(instance(0), instance(0, score=0.6), instance(0, class_id=1)), [on(0, verdict)], NAMES)
    assert decided.verdicts == {0: verdict, 1: "reject"}


@pytest.mark.parametrize(
    "decision",
    [
        on(0, new_class="zebra"),
        on(0, name="zebra"),
        Decision("a.png", "accept", None, None, "zebra", mask(0)),
        Decision("a.png", "accept", "dog", mask(0, size=(HEIGHT, 80))),  # the image had another size then
        on(0, new_rle=mask(0, size=(HEIGHT, 80))),
        Decision("a.png", "accept", None, None, "dog", mask(0, size=(HEIGHT, 80))),
    ],
)
def test_what_does_not_fit_the_record_is_handed_back(decision: Decision) -> None:
    decided = decide(record(instance(0)), [decision], NAMES)
    assert (decided.record, decided.verdicts, decided.unmatched) == (record(instance(0)), {}, [decision])
    torn = ImageRecord("a.png", 0, 0, "", "error", "torn")
    assert decide(torn, [decision], NAMES).unmatched == [decision]


def verdicts(given: ImageRecord, by_hand: dict[int, Any], **thresholds: float) -> list[str]:
    judged = judge(given, QualityConfig(**thresholds), CLASSES, by_hand)
    assert [index for index, each in enumerate(judged) if each.by_hand] == sorted(by_hand)
    return [each.reason or each.verdict for each in judged]


FAILING = instance(0, 1, score=0.01, mask_score=0.01, stability=0.01, box_xyxy=(50, 0, 60, 5))


def test_a_persons_word_beats_every_filter() -> None:
    assert verdicts(record(FAILING), {}) == ["low score"]
    assert judge(record(FAILING), QualityConfig(), CLASSES[:1], {0: "accept"}) == [Judgement("accept", "", True)]
    sure = instance(0, score=0.99, mask_score=0.99)
    assert judge(record(sure), QualityConfig(), CLASSES[:1], {0: "reject"}) == [Judgement("reject", "by hand", True)]
    whole = instance(0, WIDTH, area=HEIGHT * WIDTH)
    assert verdicts(record(whole), {0: "accept"}, max_area_share=0.1) == ["accept"]


def test_what_was_rejected_by_hand_drops_nobody() -> None:
    best, lesser = instance(0, score=0.9), instance(1, score=0.8)
    assert verdicts(record(best, lesser), {}) == ["accept", "duplicate"]
    assert verdicts(record(best, lesser), {0: "reject"}) == ["by hand", "accept"]


def test_what_was_accepted_by_hand_comes_first() -> None:
    best, lesser, weak = instance(0, score=0.9), instance(1, score=0.8), instance(1, score=0.02)
    assert verdicts(record(best, lesser), {1: "accept"}) == ["duplicate", "accept"]
    assert verdicts(record(best, weak), {1: "accept"}) == ["duplicate", "accept"]
    assert verdicts(record(best, replace(weak, class_id=1)), {1: "accept"}) == [
        "duplicate of another class",
        "accept",
    ]
    assert verdicts(record(best, lesser), {0: "accept", 1: "accept"}) == ["accept", "accept"]
    part, around = instance(5, 5, score=0.9), instance(0, 40, score=0.31)
    assert verdicts(record(part, around), {}) == ["accept", "uncertain"]
    assert verdicts(record(part, around), {1: "accept"}) == ["contained", "accept"]
