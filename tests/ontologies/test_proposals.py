"""Proposals: counting tags in any order, merging spellings or keeping them apart, and the file that is written."""

from __future__ import annotations

import itertools
import os
import pickle
import random
import re
import statistics
import tomllib
from pathlib import Path

import pytest

from ontologies import (
    VOCABULARIES,
    Ontology,
    OntologyError,
    Proposal,
    TagCounts,
    propose,
    read_ontology,
    read_synonyms,
    read_vocabulary,
    write_proposal,
)

Tagged = tuple[str, list[tuple[str, float]]]


def counted(*images: Tagged) -> TagCounts:
    counts = TagCounts()
    for image_id, tags in images:
        counts.add(image_id, tags)
    return counts


def met(*tags: str) -> TagCounts:
    """Counts in which each tag has its own image."""
    return counted(*((f"{number}.jpg", [(tag, 0.5)]) for number, tag in enumerate(tags)))


def prompts(proposals: list[Proposal]) -> dict[str, tuple[str, ...]]:
    return {proposal.name: proposal.prompts for proposal in proposals}


def many(number: int = 120) -> list[Tagged]:
    """The same images each time, with up to eight tags of a few classes in many spellings."""
    draw = random.Random(5)
    words = ["dog", "Dog", "dogs", "puppy", "puppies", "fire hydrant", "fire-hydrants", "fire_hydrant", "bus", "buses"]
    words += ["glass", "glasses", "Christmas tree", "christmas trees", "scissors", "person", "people", "leaf", "leaves"]
    return [
        (f"{place:03}.jpg", [(draw.choice(words), draw.random()) for _ in range(draw.randrange(8))])
        for place in range(number)
    ]


# --- counting


def test_counts_means_and_examples() -> None:
    counts = counted(
        ("b.jpg", [("dog", 0.9), ("cat", 0.2)]),
        ("a.jpg", [("dog", 0.9)]),
        ("d.jpg", [("dog", 0.1)]),
        ("c.jpg", [("dog", 0.5)]),
        ("e.jpg", []),
    )
    assert counts.images == 5
    dog, cat = propose(counts)
    assert dog == Proposal("dog", ("dog",), 4, dog.mean_score, ("a.jpg", "b.jpg", "c.jpg"))
    assert dog.mean_score == pytest.approx(0.6)
    assert (cat.images, cat.mean_score, cat.examples) == (1, 0.2, ("b.jpg",))


def test_an_image_counts_once_for_a_class_with_its_best_score() -> None:
    counts = counted(("a.jpg", [("dog", 0.2), ("dogs", 0.6), ("puppy", 0.4), ("dog", 0.3)]), ("b.jpg", [("dog", 0.1)]))
    (dog,) = propose(counts, {"puppy": "dog"})
    assert (dog.images, dog.mean_score, dog.examples) == (2, pytest.approx(0.35), ("a.jpg", "b.jpg"))


def test_an_independent_count_agrees() -> None:
    images = many()
    wanted = {"dog", "Dog", "dogs", "puppy", "puppies"}
    scores = {image_id: [score for tag, score in tags if tag in wanted] for image_id, tags in images}
    best = {image_id: max(found) for image_id, found in scores.items() if found}
    dog = next(item for item in propose(counted(*images), {"puppy": "dog"}) if item.name == "dog")
    assert dog.images == len(best)
    assert dog.mean_score == pytest.approx(statistics.mean(best.values()))
    assert dog.examples == tuple(sorted(best, key=lambda image_id: (-best[image_id], image_id))[:3])


def test_neither_order_nor_workers_change_the_result(tmp_path: Path) -> None:
    images = many()
    expected = propose(counted(*images), {"puppy": "dog"})
    assert len(expected) > 6
    for seed in range(5):
        draw = random.Random(seed)
        shuffled = [(image_id, draw.sample(tags, len(tags))) for image_id, tags in draw.sample(images, len(images))]
        shards = [pickle.loads(pickle.dumps(counted(*shuffled[start::4]))) for start in range(4)]
        left, right = TagCounts(), TagCounts()
        for shard in shards:
            left.merge(shard)
        shards[2].merge(shards[3])  # merging is associative
        shards[1].merge(shards[2])
        right.merge(shards[1])
        right.merge(shards[0])
        for counts in (counted(*shuffled), left, right):
            assert counts.images == len(images)
            assert propose(counts, {"puppy": "dog"}) == expected


def test_counting_again_changes_nothing() -> None:
    counts = counted(*many())
    expected = propose(counts)
    counts.merge(counted(*many(60)))
    counts.merge(counts)
    assert (counts.images, propose(counts)) == (120, expected)


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_not_a_number_is_refused(score: float) -> None:
    with pytest.raises(OntologyError, match=rf"^a\\n.jpg: tag 'dog' has the score {score}") as caught:
        counted(("a\n.jpg", [("dog", score)]))
    assert "\n" not in str(caught.value)


# --- what is one class


@pytest.mark.parametrize(
    "pair",
    [
        *["dog dogs", "bus buses", "box boxes", "puppy puppies", "knife knives", "leaf leaves", "foot feet"],
        *["tooth teeth", "goose geese", "mouse mice", "man men", "woman women", "child children", "person people"],
        *["cactus cacti", "hoof hooves", "tomato tomatoes", "die dice", "ski skis", "lens lenses", "Bus buses"],
        *["hot-dog hot_dog", "T-shirt t_shirts", "fire_hydrant fire-hydrants", "bottle_of_wine bottles-of-wine"],
        *["wine_glass wine_glasses", "iPod IPODS", "caf\u00e9 cafe\u0301"],
    ],
)
def test_spellings_of_one_class(pair: str) -> None:
    one, other = pair.split()
    for tags in ((one, other, other), (other, one, one)):
        for order in itertools.permutations(tags):
            (found,) = propose(met(*order))
            assert found.images == 3
            assert found.name.casefold() == tags[1].replace("_", " ").replace("e\u0301", "\u00e9").casefold()


@pytest.mark.parametrize(
    "pair",
    [
        *[
            "glass glas",
            "bus bu",
            "scissors scissor_kick",
            "glass glasses",
            "brass bra",
            "brass bras",
            "lens len",
            "new news",
        ],
        *["bass base", "gas glass", "boss bow", "trunk trunks", "dress address", "sea_lion sea_lions_cage", "ca car"],
        *["greenhouse green_house", "日本 日本s", "horse house", "grass gras", "chess chest", "ass asses_milk"],
    ],
)
def test_classes_that_only_look_alike(pair: str) -> None:
    assert len(propose(met(*pair.split()))) == 2


@pytest.mark.parametrize("tag", ["bus", "glass", "scissors", "dogs", "glasses", "brass", "series", "Christmas trees"])
def test_a_form_that_stands_alone_is_left_as_it_is(tag: str) -> None:
    assert prompts(propose(met(tag))) == {tag: (tag,)}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_no_two_classes_of_a_dataset_are_merged(name: str) -> None:
    words = read_vocabulary(name)
    assert len(propose(met(*words))) == len(words)


def test_the_most_frequent_spelling_names_the_class_and_all_are_prompts() -> None:
    tags = ["dogs"] * 3 + ["dog"] * 2 + ["Dog"] + ["hot-dog", "hot dog", "hot_dog", "hot_dog"] + ["cats", "cat"]
    found = prompts(propose(met(*tags)))
    assert found == {"dogs": ("dogs", "dog"), "hot dog": ("hot dog", "hot-dog"), "cat": ("cat", "cats")}


@pytest.mark.parametrize("tag", ["", " ", "...", "_", "\x00", "\ud800", "?\n"])
def test_an_empty_tag_is_left_out(tag: str) -> None:
    assert list(prompts(propose(met(tag, "dog")))) == ["dog"]


def test_tags_become_prompts_whatever_is_in_them(tmp_path: Path) -> None:
    odd = [
        "st. bernard",
        "a\nb",
        "c\x07d",
        'quo"te',
        "back\\slash",
        "# no comment",
        "a|b",
        "-",
        "'",
        "x" * 5000,
        "日本",
    ]
    write_proposal(tmp_path / "odd.toml", propose(met(*odd)), len(odd))
    assert {"st bernard", "a b", "c d", 'quo"te', "-", "日本"} <= set(read_ontology(tmp_path / "odd.toml").class_names)


# --- synonyms


def test_synonyms_name_the_class_with_their_plurals() -> None:
    synonyms = {"puppy": "dog", "dog": "Pet animal", "cat": "pet-animal"}
    found = propose(met("puppies", "puppies", "Dog", "cats", "tree"), synonyms)
    assert prompts(found) == {"Pet animal": ("puppies", "Dog", "cats"), "tree": ("tree",)}
    assert prompts(propose(met("puppies", "puppies"))) == {"puppies": ("puppies",)}


def test_the_user_may_join_what_rules_keep_apart_and_the_other_way_round() -> None:
    assert list(prompts(propose(met("glass", "glasses"), {"glasses": "glass"}))) == ["glass"]
    apart = {"brush": "hairbrush", "brushes": "tools"}
    assert prompts(propose(met("brush", "brushes"), apart)) == {"hairbrush": ("brush",), "tools": ("brushes",)}
    apart = {"people": "crowd", "persons": "guests"}  # "person" belongs to one and joins nothing
    found = prompts(propose(met("people", "person", "persons"), apart))
    assert sorted(found) == ["crowd", "guests"]
    assert sorted(sum(found.values(), ())) == ["people", "person", "persons"]


def test_a_file_of_synonyms(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.toml"
    path.write_text('[synonyms]\ndog = ["puppy", "golden  retriever"]\n"fire hydrant" = ["hydrant"]\ncat = []\n')
    assert read_synonyms(path) == {"puppy": "dog", "golden retriever": "dog", "hydrant": "fire hydrant"}
    path.write_text('[synonyms]\ndog = ["dog", "Dog", "pup", "pup"]\nanimal = ["dog"]\n')
    assert prompts(propose(met("pup", "dog"), read_synonyms(path))) == {"animal": ("dog", "pup")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected one table \[synonyms\]"),
        ("synonyms = 3", r"expected one table \[synonyms\]"),
        ("[synonyms]\n[other]", r"expected one table \[synonyms\]"),
        ("[synonyms", "not valid TOML"),
        ("[synonyms]\ndog = 'puppy'", "the synonyms of 'dog' must be a list"),
        ("[synonyms]\ndog = [3]", "a synonym of 'dog' must be text, not int"),
        ("[synonyms]\ndog = [' ']", "a synonym of 'dog' is blank"),
        ("[synonyms]\n' ' = ['dog']", "a class of synonyms is blank"),
        ("[synonyms]\ndog = ['pet']\ncat = ['Pet']", "'pet' is a synonym of 'cat' and of 'dog'; keep one"),
        ("[synonyms]\ndog = ['cat']\ncat = ['dog']", "'cat' is a synonym of itself through"),
        ("[synonyms]\na = ['b']\nb = ['c']\nc = ['a']\nd = ['x']", "is a synonym of itself through"),
        (b"[synonyms]\n# \xff", "not UTF-8"),
    ],
)
def test_an_invalid_file_of_synonyms_is_refused_in_one_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "synonyms.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(OntologyError, match=f"^{re.escape(str(path))}: .*{message}") as caught:
        read_synonyms(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_of_synonyms(tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=r"none.toml: cannot be read \(No such file"):
        read_synonyms(tmp_path / "none.toml")


# --- choosing


def test_order_and_limits() -> None:
    counts = counted(
        ("a.jpg", [("tree", 0.5), ("cat", 0.4), ("ant", 0.3), ("bee", 0.3)]),
        ("b.jpg", [("tree", 0.1), ("cats", 0.1)]),
    )
    assert [item.name for item in propose(counts)] == ["tree", "cat", "ant", "bee"]
    assert [item.name for item in propose(counts, max_classes=3)] == ["tree", "cat", "ant"]
    assert [item.name for item in propose(counts, min_tag_count=2)] == ["tree", "cat"]  # images per class, not per word
    assert propose(counts, min_tag_count=3) == []
    assert propose(TagCounts()) == []


@pytest.mark.parametrize(("limit", "value"), [("min_tag_count", 0), ("max_classes", 0), ("max_classes", -1)])
def test_invalid_limits(limit: str, value: int) -> None:
    with pytest.raises(OntologyError, match=f"^{limit} is {value}; it must be at least 1$"):
        propose(met("dog"), **{limit: value})  # type: ignore[arg-type]


# --- the file


def test_a_proposal_is_an_ontology_with_evidence_in_comments(tmp_path: Path) -> None:
    path = tmp_path / "proposed.toml"
    found = propose(counted(*many()), {"puppy": "dog"})
    write_proposal(path, found, 120)
    ontology = read_ontology(path)
    assert [(item.name, item.prompts) for item in ontology.classes] == [(item.name, item.prompts) for item in found]
    assert ontology.distractors == ()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# Proposed from the tags of 120 images")
    assert lines[2] == f"#     labeler label IMAGES -o OUT --ontology {path}"
    comments = [line for line in lines if line.startswith("# in ")]
    assert comments == [
        f"# in {item.images} of 120 images, mean score {item.mean_score:.2f}, e.g. {', '.join(item.examples)}"
        for item in found
    ]
    for comment, item in zip(comments, found, strict=True):
        assert lines[lines.index(comment) + 1 :][:2] == ["[[class]]", f'name = "{item.name}"']
    assert os.listdir(tmp_path) == ["proposed.toml"]


def test_the_same_proposals_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, images in (("a", many()), ("b", many()[::-1])):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        write_proposal("x.toml", propose(counted(*images)), 120)
    assert (tmp_path / "a" / "x.toml").read_bytes() == (tmp_path / "b" / "x.toml").read_bytes()


@pytest.mark.parametrize(
    ("image_id", "shown"),
    [
        ("a\nname = 'cat'.jpg", r"a\nname = 'cat'.jpg"),
        ("a\r[[class]]", r"a\r[[class]]"),
        ("nul\x00 bell\x07 del\x7f", r"nul\x00 bell\x07 del\x7f"),
        ("half \ud83d", r"half \ud83d"),
        ("next\x85line\u2028and\u202eback", r"next\x85line\u2028and\u202eback"),
        ("日本/ñ 🐕 #1.jpg", "日本/ñ 🐕 #1.jpg"),
        ("", ""),
    ],
)
def test_image_ids_of_any_characters_stay_in_their_comment(tmp_path: Path, image_id: str, shown: str) -> None:
    path = tmp_path / "proposed.toml"
    write_proposal(path, propose(counted((image_id, [("dog", 1.0)]))), 1)
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {"class": [{"name": "dog"}]}
    assert read_ontology(path) == Ontology.from_text("dog")
    assert f"# in 1 of 1 images, mean score 1.00, e.g. {shown}\n[[class]]\n" in path.read_text(encoding="utf-8")


def test_a_path_with_a_space_can_be_pasted(tmp_path: Path) -> None:
    write_proposal(tmp_path / "my pets.toml", propose(met("dog")), 1)
    assert f"--ontology '{tmp_path}/my pets.toml'\n" in (tmp_path / "my pets.toml").read_text()


def test_a_failed_write_gives_one_line_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text("old")
    found = propose(met("dog"))
    for target, proposals, message in (
        (path, [], r"old.toml: no class to propose from 9 images; tag more images"),
        (path, [found[0], found[0]], "two classes are named 'dog' and 'dog'"),
        (tmp_path / "new.txt", found, "ontologies are written as TOML"),
        (tmp_path / "none" / "new.toml", found, r"cannot be written \(No such file"),
    ):
        with pytest.raises(OntologyError, match=message) as caught:
            write_proposal(target, proposals, 9)
        assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["old.toml"]
