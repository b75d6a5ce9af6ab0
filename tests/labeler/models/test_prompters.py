"""The prompts of images, with taggers that return given tags."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from labeler.errors import UsageError
from labeler.models.prompters.prompter import (
    MAX_TAGS_PER_IMAGE,
    FixedPrompts,
    GatedPrompts,
    ImagePrompts,
    TagPrompts,
    tag_each,
)
from ontologies import ClassSpec, Ontology
from ontologies.synonyms import same_words
from ontologies.taggers import Tags

PETS = Ontology((ClassSpec("dog", ("dog", "Puppy")), ClassSpec("cat"), ClassSpec("bird")), ("toy",))
SELF = {prompt: [prompt] for spec in PETS.classes for prompt in spec.prompts}
FAILS, SETTINGS = 99, 98


class ByWidth:
    """Tags images by their width; raises for the widths ``FAILS`` and ``SETTINGS``."""

    def __init__(self, tags: dict[int, Tags]) -> None:
        self.tags = tags
        self.calls: list[int] = []

    def tag(self, images: Sequence[NDArray[np.uint8]]) -> list[Tags]:
        self.calls.append(len(images))
        widths = [image.shape[1] for image in images]
        if SETTINGS in widths:
            raise UsageError("no such tag")
        if FAILS in widths:
            raise RuntimeError("no luck\nat all")
        return [self.tags.get(width, []) for width in widths]


def images(*widths: int) -> list[NDArray[np.uint8]]:
    return [np.zeros((4, width, 3), np.uint8) for width in widths]


def test_without_a_tagger_all_images_get_the_same_prompts() -> None:
    assert FixedPrompts(PETS).prompts_for(images(1, 2)) == [ImagePrompts(PETS, (0, 1, 2))] * 2


def test_an_image_gets_its_own_tags_as_prompts() -> None:
    tagger = ByWidth(
        {1: [("red car", 0.9), ("a.b", 0.8), ("tree", 0.7), ("Tree", 0.6)], 2: [(" big  dog?", 0.5)], 3: []}
    )
    first, second, third = TagPrompts(tagger, lambda tag: tag != "a b").prompts_for(images(1, 2, 3))
    assert first.ontology == Ontology((ClassSpec("red car"), ClassSpec("tree")))
    assert first.class_ids == (0, 2)  # the index among all tags, which are all kept
    assert [tag for tag, _ in first.tags] == ["red car", "a b", "tree"]
    assert second.ontology == Ontology((ClassSpec("big dog"),))
    assert second.tags == [("big dog", 0.5)]
    assert third == ImagePrompts(None, (), [])


def test_only_the_best_tags_are_kept() -> None:
    many: Tags = [(f"thing {n}", 1 - n / 1000) for n in range(500)]
    (found,) = TagPrompts(ByWidth({1: many}), lambda tag: True).prompts_for(images(1))
    assert found.tags == many[:MAX_TAGS_PER_IMAGE]
    assert found.ontology is not None
    assert len(found.ontology.classes) == MAX_TAGS_PER_IMAGE


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        ([("dog", 0.4), ("cat", 0.1), ("bird", 0.3)], (0, 2)),
        ([("puppy", 0.3), ("dog", 0.0), ("cat", 0.29)], (0,)),  # one prompt of a class is enough
        ([("cat", 1.0)], (1,)),
        ([], ()),
    ],
)
def test_a_gate_skips_classes_with_low_scores(tags: Tags, kept: tuple[int, ...]) -> None:
    (found,) = GatedPrompts(ByWidth({1: tags}), PETS, 0.3, SELF, forward_passes=len, own_forward_passes=2).prompts_for(
        images(1)
    )
    assert found.class_ids == kept
    assert found.tags == tags
    if kept:
        assert found.ontology == Ontology(tuple(PETS.classes[i] for i in kept), PETS.distractors)
    else:
        assert found.ontology is None
    asked = len(found.ontology.prompts) if found.ontology else 0
    assert (found.forward_passes, found.ungated) == (asked + 2, len(PETS.prompts))


def test_a_gate_keeps_classes_that_the_tagger_cannot_name() -> None:
    """RAM has a built-in vocabulary, with its own spelling."""
    pets = Ontology((ClassSpec("dog"), ClassSpec("cat"), ClassSpec("axolotl")))
    tags_of = same_words(pets.class_names, ("Dogs", "cat", "lamp"))
    assert tags_of == {"dog": ["Dogs"], "cat": ["cat"], "axolotl": []}
    (found,) = GatedPrompts(ByWidth({1: [("dogs", 0.8)]}), pets, 0.3, tags_of, forward_passes=len).prompts_for(
        images(1)
    )
    assert found.class_ids == (0, 2)


def test_a_tagger_that_fails_on_one_image_is_noted_with_that_image() -> None:
    tagger = ByWidth({1: [("dog", 1.0)]})
    found = tag_each(tagger, images(1, FAILS, 1, 1, 1))
    assert found == [
        ([("dog", 1.0)], ""),
        ([], "tagging failed: RuntimeError: no luck at all"),
        *[([("dog", 1.0)], "")] * 3,
    ]
    gated = GatedPrompts(tagger, PETS, 0.5, SELF, forward_passes=len).prompts_for(images(FAILS, 1))
    assert gated[0].ontology == PETS  # a tagger that failed rules nothing out
    assert gated[0].class_ids == (0, 1, 2)
    assert gated[1].class_ids == (0,)
    assert TagPrompts(tagger, lambda tag: True).prompts_for(images(FAILS))[0].ontology is None
    with pytest.raises(UsageError):  # not caused by an image
        tag_each(tagger, images(1, SETTINGS))
    assert tag_each(tagger, []) == []
