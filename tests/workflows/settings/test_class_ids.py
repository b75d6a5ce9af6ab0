"""The ids of classes while their list changes, and which prompts another list asks."""

from __future__ import annotations

import pytest

from ontologies import ClassSpec, Ontology
from workflows.settings.class_ids import changes_of_classes, class_from_json, class_to_json, with_ids
from workflows.settings.passes import Pass, passes_for


def listed(ontology: Ontology | None) -> str:
    """The classes by id, a removed one in brackets, with their prompts where these are not the name."""
    assert ontology is not None
    words = []
    for spec in ontology.classes:
        text = spec.name if spec.prompts == (spec.name,) else f"{spec.name}={'+'.join(spec.prompts)}"
        words.append(f"[{text}]" if spec.removed else text)
    return " ".join(words)


@pytest.mark.parametrize(
    ("before", "given", "now"),
    [
        ("dog, cat", "cat, bird, dog", "dog cat bird"),
        ("dog, cat", "cat", "[dog] cat"),
        ("dog, cat", "dog=hound, cat", "hound=dog cat"),
        ("dog, cat", "DOG, cat", "DOG cat"),
        ("dog, cat", "puppy=dog, cat", "dog=puppy cat"),  # another prompt of the same class
        ("dog, cat", "puppy=hound, cat", "[dog] cat hound=puppy"),  # another class
        ("dog, cat", "dog=cat, cat=dog", "dog=cat cat=dog"),  # the names say which is which
        ("dog=animal, cat=animal", "dog, cat", "dog cat"),  # divided: one of them is the old class
        ("dog, cat", "dog=animal, cat=animal", "animal=dog+cat [cat]"),  # united
        ("dog, cat", "dog=hound, puppy=dog, cat", "dog=puppy cat hound=dog"),
    ],
)
def test_classes_keep_their_ids(before: str, given: str, now: str) -> None:
    assert listed(with_ids(Ontology.from_text(given), Ontology.from_text(before))) == now


def test_a_removed_class_comes_back_to_its_own_id() -> None:
    first = Ontology.from_text("dog, cat")
    without = with_ids(Ontology.from_text("cat, bird"), first)
    again = with_ids(Ontology.from_text("dog, bird"), without)
    assert (listed(without), listed(again)) == ("[dog] cat bird", "dog [cat] bird")
    assert [line.partition(":")[0] for line in changes_of_classes(without, again)] == [
        "removed",
        "back among the classes",
    ]


def test_former_names_are_kept_once() -> None:
    ontology: Ontology | None = Ontology.from_text("dog, cat")
    for given in ("dog=hound, cat", "dog=pooch, cat", "dog=hound, cat"):
        ontology = with_ids(Ontology.from_text(given), ontology)
    assert ontology is not None
    assert ontology.classes[0].former_names == ("dog", "pooch")


@pytest.mark.parametrize("spec", [ClassSpec("dog"), ClassSpec("a", ("b", "c"), None, True, ("d", "e"))])
def test_a_class_in_a_file(spec: ClassSpec) -> None:
    assert class_from_json(class_to_json(spec)) == spec


def asked(passes: tuple[Pass, ...]) -> list[str]:
    return [f"{each.labeling['labeler']}: {listed(each.ontology)}" for each in passes]


def by(labeler: str, classes: str) -> Pass:
    return Pass({"labeler": labeler}, Ontology.from_text(classes))


@pytest.mark.parametrize(
    ("named", "classes", "add", "new"),
    [
        ("a", "dog, cat", None, []),
        ("a", "Dog", None, []),  # models ignore the case
        ("a", "dog, puppy=dog, bird", None, ["a: dog=puppy bird"]),
        ("b", "dog, cat, bird", "new", ["b: bird"]),
        ("b", "dog, cat, bird", "all", ["b: dog cat bird"]),
        ("a", "dog, cat, fish", "all", ["a: fish"]),  # the only one that b was asked for, and a was not
    ],
)
def test_a_pass_asks_what_was_not_asked_before(named: str, classes: str, add: str | None, new: list[str]) -> None:
    made = (by("a", "dog, cat"), by("b", "fish"))
    passes = passes_for(made, by(named, classes), add)
    assert passes[:2] == made
    assert asked(passes[2:]) == new
