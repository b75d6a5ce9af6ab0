"""One class list out of the tags of many images."""

from __future__ import annotations

import numpy as np
import pytest

from labeler.geometry.masks import mask_to_rle
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from workflows.run.classes import SavedClasses, classes_of_tags, numbered

RLE = mask_to_rle(np.ones((2, 2), dtype=bool))


def record(name: str, *tags: str, found: tuple[int, ...] = ()) -> ImageRecord:
    instances = tuple(Instance(i, tags[i], (0, 0, 2, 2), 0.9, 0.9, 0.9, 4, RLE) for i in found)
    return ImageRecord(name, 2, 2, "", tags=tuple((tag, 0.9) for tag in tags), instances=instances)


TAGGED = [["dog", "ball"], ["cat", "Dog"], [], ["tree", "cat", "dog"]]


def saved(names: tuple[str, ...], min_tag_count: int = 1, max_classes: int | None = None) -> SavedClasses:
    return SavedClasses(Ontology(tuple(map(ClassSpec, names))), min_tag_count, max_classes)


def names(
    before: SavedClasses | None = None, min_tag_count: int = 1, max_classes: int | None = None
) -> tuple[str, ...]:
    found = classes_of_tags(TAGGED, before, min_tag_count, max_classes)
    return found.class_names if found else ()


def test_classes_stand_in_the_order_of_their_first_image() -> None:
    assert names() == ("dog", "ball", "cat", "tree")


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (2, None, ("dog", "cat")),
        (3, None, ("dog",)),
        (4, None, ()),
        (1, 2, ("dog", "cat")),
        (1, 3, ("dog", "ball", "cat")),
    ],
)
def test_rare_tags_may_be_left_out(count: int, most: int | None, expected: tuple[str, ...]) -> None:
    assert names(min_tag_count=count, max_classes=most) == expected


def test_what_the_dataset_had_keeps_its_place() -> None:
    assert names(saved(("cat", "dog"))) == ("cat", "dog", "ball", "tree")
    assert names(saved(("tree", "cow", "cat"), 2), min_tag_count=2) == ("tree", "cow", "cat", "dog")
    assert names(saved(("tree", "ball"), 1, 2), max_classes=2) == ("tree", "ball")  # whatever is more frequent by now
    assert names(saved(("tree", "ball"), 1, 3), max_classes=3) == ("tree", "ball", "dog")
    # Other limits are a wish for other classes.
    assert names(saved(("tree", "cow", "cat")), min_tag_count=2) == ("cat", "dog")
    assert names(saved(("tree", "cat", "dog")), max_classes=2) == ("cat", "dog")


def test_spellings_and_plurals_are_one_class() -> None:
    tagged = [["dogs", "t-shirt"], ["dog", "T shirt"], ["Dog", "dogs"], ["cat"]]
    found = classes_of_tags(tagged, None, 1, None)
    assert found is not None
    assert [(spec.name, spec.prompts) for spec in found.classes] == [
        ("dogs", ("dogs", "dog")),
        ("t-shirt", ("t-shirt", "T shirt")),
        ("cat", ("cat",)),
    ]
    assert classes_of_tags(tagged, None, 3, None) == Ontology((ClassSpec("dogs", ("dogs", "dog")),))
    (numbers,) = numbered([record("x", "cat", "DOG", "t shirt", found=(0, 1, 2))], found)
    assert [instance.class_id for instance in numbers.instances] == [2, 0, 1]
    # Two classes stay two, though a word turns up that would join them.
    axes = classes_of_tags([["axe"], ["axis"], ["axes"]], saved(("axe", "axis")), 1, None)
    assert axes is not None
    assert axes.class_names == ("axe", "axis")
    assert {prompt for spec in axes.classes for prompt in spec.prompts} == {"axe", "axis", "axes"}


def test_instances_are_numbered_by_their_tag_and_others_left_out() -> None:
    ontology = classes_of_tags(TAGGED, None, 2, None)
    assert ontology is not None
    (found,) = numbered([record("x", "tree", "CAT", "dog", found=(0, 1, 2, 2))], ontology)
    assert [(instance.class_id, instance.prompt) for instance in found.instances] == [
        (1, "CAT"),
        (0, "dog"),
        (0, "dog"),
    ]
    assert found.tags == record("x", "tree", "CAT", "dog").tags


def test_no_tag_makes_no_class() -> None:
    assert classes_of_tags([[], []], None, 1, None) is None
