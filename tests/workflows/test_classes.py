"""One class list out of the tags of many images."""

from __future__ import annotations

import numpy as np
import pytest

from labeler.masks import mask_to_rle
from labeler.records import ImageRecord, Instance
from workflows.classes import classes_of_tags, numbered

RLE = mask_to_rle(np.ones((2, 2), dtype=bool))


def record(name: str, *tags: str, found: tuple[int, ...] = ()) -> ImageRecord:
    instances = tuple(Instance(i, tags[i], (0, 0, 2, 2), 0.9, 0.9, 0.9, 4, RLE) for i in found)
    return ImageRecord(name, 2, 2, "", tags=tuple((tag, 0.9) for tag in tags), instances=instances)


TAGGED = [["dog", "ball"], ["cat", "Dog"], [], ["tree", "cat", "dog"]]


def names(before: tuple[str, ...] = (), min_tag_count: int = 1, max_classes: int | None = None) -> tuple[str, ...]:
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
    assert names(before=("cat", "dog")) == ("cat", "dog", "ball", "tree")
    assert names(before=("tree", "cow", "cat"), min_tag_count=2) == ("cat", "dog")  # as far as it is wanted


def test_instances_are_numbered_by_their_tag_and_others_left_out() -> None:
    ontology = classes_of_tags(TAGGED, (), 2, None)
    assert ontology is not None
    (found,) = numbered([record("x", "tree", "CAT", "dog", found=(0, 1, 2, 2))], ontology)
    assert [(instance.class_id, instance.prompt) for instance in found.instances] == [
        (1, "CAT"),
        (0, "dog"),
        (0, "dog"),
    ]
    assert found.tags == record("x", "tree", "CAT", "dog").tags


def test_no_tag_makes_no_class() -> None:
    assert classes_of_tags([[], []], (), 1, None) is None
