"""Ontologies: what is accepted, what is refused with which message, and all file formats."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest
import yaml

import ontologies
from ontologies import (
    DISTRACTOR,
    ClassSpec,
    Ontology,
    OntologyError,
    OntologyWarning,
    from_caption_ontology,
    read_ontology,
    write_ontology,
)

PETS = Ontology((ClassSpec("dog", ("golden retriever", "puppy"), 0.4), ClassSpec("cat")), ("toy dog", "plush"))


def shape(ontology: Ontology) -> list[tuple[str, list[str]]]:
    return [(item.name, list(item.prompts)) for item in ontology.classes]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


# --- the types


def test_flat_views_of_an_ontology() -> None:
    assert PETS.class_names == ("dog", "cat")
    assert PETS.min_scores == (0.4, None)
    assert PETS.prompts == (
        ("golden retriever", 0),
        ("puppy", 0),
        ("cat", 1),
        ("toy dog", DISTRACTOR),
        ("plush", DISTRACTOR),
    )
    assert DISTRACTOR not in range(len(PETS.classes))


def test_text_is_stripped_and_collapsed_but_keeps_its_case() -> None:
    spec = ClassSpec("  Big \t Dog ", ("St  Bernard\n", "\u00a0Great Dane"))
    assert spec == ClassSpec("Big Dog", ("St Bernard", "Great Dane"))
    assert spec.name == "Big Dog"
    assert ClassSpec(" red  car ").prompts == ("red car",)
    assert Ontology((ClassSpec("dog"),), (" toy  dog ",)).distractors == ("toy dog",)


def test_lists_are_kept_as_tuples_so_that_ontologies_can_be_hashed_and_sent_to_workers() -> None:
    ontology = Ontology([ClassSpec("dog", ["puppy"])], ["toy"])  # type: ignore[arg-type]
    assert ontology == Ontology((ClassSpec("dog", ("puppy",)),), ("toy",))
    assert hash(ontology) == hash(pickle.loads(pickle.dumps(ontology)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        ontology.distractors = ()  # type: ignore[misc]


@pytest.mark.parametrize("score", [0, 0.0, 0.25, 1, 1.0])
def test_thresholds_from_zero_to_one_are_accepted(score: float) -> None:
    found = ClassSpec("dog", min_score=score).min_score
    assert found == score
    assert type(found) is float


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Ontology(()), "no class"),
        (lambda: Ontology("dog"), "classes must be a list"),
        (lambda: Ontology(("dog",)), "ClassSpec"),
        (lambda: ClassSpec(""), "class name is blank"),
        (lambda: ClassSpec(" \t\n"), "class name is blank"),
        (lambda: ClassSpec(3), r"class name must be text, not int \(3\)"),
        (lambda: ClassSpec("a\x00b"), "control character"),
        (lambda: ClassSpec("\ud83d"), "surrogate"),
        (lambda: ClassSpec("dog", ("",)), "class 'dog': a prompt is blank"),
        (lambda: ClassSpec("dog", ("puppy", "  ")), "class 'dog': a prompt is blank"),
        (lambda: ClassSpec("dog", "puppy"), "prompts must be a list, not str"),
        (lambda: ClassSpec("dog", (None,)), "must be text, not NoneType"),
        (lambda: ClassSpec("dog", ("st. bernard",)), r"class 'dog': a prompt contains '\.'"),
        (lambda: ClassSpec("dog", ("dog?",)), r"contains '\?'"),
        (lambda: ClassSpec("dog", ("dog\ncat",)), r"contains '\\n'"),
        (lambda: ClassSpec("dog\ncat"), r"contains '\\n'"),
        (lambda: ClassSpec("no. 5"), r"class 'no\. 5': a prompt contains '\.'"),
        (lambda: Ontology((ClassSpec("dog"),), ("toy.",)), r"a distractor contains '\.'"),
        (lambda: Ontology((ClassSpec("dog"),), ("",)), "a distractor is blank"),
        (lambda: Ontology((ClassSpec("dog"),), "toy"), "distractors must be a list, not str"),
        (lambda: Ontology((ClassSpec("dog"), ClassSpec("dog"))), "two classes are named 'dog' and 'dog'"),
        (lambda: Ontology((ClassSpec("Dog", ("a",)), ClassSpec("dog", ("b",)))), "named 'Dog' and 'dog'"),
        (lambda: Ontology((ClassSpec("dog", ("pup", "PUP")),)), "'PUP' is given twice"),
        (lambda: Ontology((ClassSpec("dog", ("pup", "pup")),)), "'pup' is given twice"),
        (
            lambda: Ontology((ClassSpec("dog", ("a  pet",)), ClassSpec("cat", ("A pet",)))),
            "'A pet' is given twice, in class 'dog' and in class 'cat'",
        ),
        (
            lambda: Ontology((ClassSpec("dog"),), ("Dog",)),
            "'Dog' is given twice, in class 'dog' and in the distractors",
        ),
        (lambda: Ontology((ClassSpec("dog"),), ("toy", "toy")), "'toy' is given twice"),
        *(
            (lambda score=score: ClassSpec("dog", min_score=score), "class 'dog': min_score must be a number")
            for score in (-0.01, 1.01, True, False, float("nan"), float("inf"), "0.5", [0.5])
        ),
    ],
)
def test_invalid_ontologies_are_refused_in_one_line(build, message: str) -> None:
    with pytest.raises(OntologyError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_name_may_contain_what_a_prompt_may_not() -> None:
    assert ClassSpec("St. Bernard", ("saint bernard",)).name == "St. Bernard"


@pytest.mark.parametrize(
    "prompt",
    [
        "person without helmet",
        "Without a mask",
        "without-mask",
        "without_mask",
        "person with no helmet",
        "no helmet",
        "No-Hardhat",
        "no_mask",
        "person not wearing a vest",
        "not ripe tomato",
        "car NOT red",
        "non-ripe tomato",
        "a non-smoker",
    ],
)
def test_negation_draws_a_warning_that_names_the_prompt(prompt: str) -> None:
    with pytest.warns(OntologyWarning, match=f"{prompt!r}.*distractor") as caught:
        Ontology((ClassSpec("thing", (prompt,)),))
    assert [item.filename for item in caught] == [__file__]
    with pytest.warns(OntologyWarning, match=repr(prompt)):
        Ontology((ClassSpec("thing"),), (prompt,))


@pytest.mark.parametrize(
    "prompt",
    [
        *("notebook", "knot", "a knot in wood", "nose", "nonstick pan", "casino", "piano", "note", "north", "canon"),
        *("forget-me-not", "forget me not", "touch-me-not", "no parking sign", "no-entry sign", "do not enter sign"),
        *("no smoking symbol", "no", "withoutness", "noodle", "nun", "tsuki no wa bear"),
    ],
)
def test_words_that_only_look_like_negation_draw_none(prompt: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Ontology((ClassSpec("thing", (prompt,)),), ("something else",))


# --- digests


def test_digests_are_the_same_on_every_machine() -> None:
    whole = '[[["dog",["golden retriever","puppy"],0.4],["cat",["cat"],null]],["toy dog","plush"]]'
    seen = '[["golden retriever",0],["puppy",0],["cat",1],["toy dog",-1],["plush",-1]]'
    assert PETS.digest == hashlib.sha256(whole.encode()).hexdigest()
    assert PETS.prompt_digest == hashlib.sha256(seen.encode()).hexdigest()


def replaced(class_id: int, **changes: object) -> Ontology:
    classes = list(PETS.classes)
    classes[class_id] = dataclasses.replace(classes[class_id], **changes)  # type: ignore[arg-type]
    return dataclasses.replace(PETS, classes=tuple(classes))


@pytest.mark.parametrize(
    ("other", "models_see_a_change"),
    [
        (replaced(0, name="hound"), False),
        (replaced(0, min_score=0.5), False),
        (replaced(1, min_score=0.0), False),
        (replaced(0, prompts=("puppy", "golden retriever")), True),
        (replaced(0, prompts=("golden retriever",)), True),
        (replaced(1, prompts=("kitten",)), True),
        (dataclasses.replace(PETS, classes=PETS.classes[::-1]), True),
        (dataclasses.replace(PETS, distractors=("toy dog",)), True),
        (dataclasses.replace(PETS, distractors=("plush", "toy dog")), True),
        # The same prompts in the same order, but assigned to other classes.
        (
            Ontology(
                (ClassSpec("dog", ("golden retriever",), 0.4), ClassSpec("cat", ("puppy", "cat"))), ("toy dog", "plush")
            ),
            True,
        ),
        (Ontology((*PETS.classes, ClassSpec("toy dog"), ClassSpec("plush"))), True),
    ],
)
def test_digests_tell_what_changed(other: Ontology, models_see_a_change: bool) -> None:
    assert other.digest != PETS.digest
    assert (other.prompt_digest != PETS.prompt_digest) is models_see_a_change


# --- from text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dog", [("dog", ["dog"])]),
        ("dog, cat", [("dog", ["dog"]), ("cat", ["cat"])]),
        (" dog ,cat , ", [("dog", ["dog"]), ("cat", ["cat"])]),
        ("golden retriever=dog, puppy=dog, cat", [("dog", ["golden retriever", "puppy"]), ("cat", ["cat"])]),
        ("puppy = dog, cat, dog", [("dog", ["puppy", "dog"]), ("cat", ["cat"])]),
        ("zebra, ant", [("zebra", ["zebra"]), ("ant", ["ant"])]),
        ("red  car=Car, truck=Car", [("Car", ["red car", "truck"])]),
        ("a=big  dog, b=big dog", [("big dog", ["a", "b"])]),
    ],
)
def test_from_text(text: str, expected: list[tuple[str, list[str]]]) -> None:
    assert shape(Ontology.from_text(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "item 1 of the class list is empty"),
        (",", "item 1 of the class list is empty"),
        (",dog", "item 1 of the class list is empty"),
        ("dog,,cat", "item 2 of the class list is empty"),
        ("dog,,", "item 2 of the class list is empty"),
        ("=dog", "item 1 of the class list, '=dog'"),
        ("cat, a=", "item 2 of the class list, 'a='"),
        ("a=b=c", "'a=b=c'"),
        ("=", "'='"),
        ("dog, dog", "'dog' is given twice"),
        ("dog, dog=animal", "'dog' is given twice, in class 'dog' and in class 'animal'"),
        ("a=Dog, b=dog", "two classes are named 'Dog' and 'dog'"),
        ("what?", r"contains '\?'"),
    ],
)
def test_from_text_refuses(text: str, message: str) -> None:
    with pytest.raises(OntologyError, match=message):
        Ontology.from_text(text)


# --- from autodistill


def test_a_real_caption_ontology() -> None:
    detection = pytest.importorskip("autodistill.detection")
    caption = detection.CaptionOntology({"shipping container": "container", "crane": "crane", "steel box": "container"})
    ontology = from_caption_ontology(caption)
    assert shape(ontology) == [("container", ["shipping container", "steel box"]), ("crane", ["crane"])]
    assert set(ontology.class_names) == set(caption.classes())
    assert {prompt for prompt, _ in ontology.prompts} == set(caption.prompts())
    for prompt, class_id in ontology.prompts:
        assert ontology.class_names[class_id] == caption.promptToClass(prompt)


def test_not_a_caption_ontology() -> None:
    with pytest.raises(OntologyError, match="expected a CaptionOntology, not dict"):
        from_caption_ontology({"dog": "dog"})  # type: ignore[arg-type]


# --- files

OWN_TOML = """\
# what we look for
distractors = ["toy dog", "plush"]

[[class]]
name = "dog"
prompts = ["golden retriever", "puppy"]
min_score = 0.4

[[class]]
name = "cat"
"""
OWN_YAML = """\
class:
  - name: dog
    prompts: [golden retriever, puppy]
    min_score: 0.4
  - name: cat
distractors:
  - toy dog
  - plush
"""
OWN = {
    "class": [{"name": "dog", "prompts": ["golden retriever", "puppy"], "min_score": 0.4}, {"name": "cat"}],
    "distractors": ["toy dog", "plush"],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pets.toml", OWN_TOML),
        ("PETS.TOML", OWN_TOML),
        ("windows.toml", "\ufeff" + OWN_TOML.replace("\n", "\r\n")),
        ("pets.yaml", OWN_YAML),
        ("pets.yml", OWN_YAML),
        ("pets.json", json.dumps(OWN)),
    ],
)
def test_own_format_in_every_syntax(tmp_path: Path, name: str, text: str) -> None:
    assert read_ontology(write(tmp_path, name, text)) == PETS


def test_coco_classes_follow_category_ids(tmp_path: Path) -> None:
    coco = {
        "info": {},
        "images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 4}],
        "annotations": [],
        "categories": [
            {"id": 90, "name": "hair_drier", "supercategory": "indoor"},
            {"id": 3, "name": "Dr. Pepper_can"},
            {"id": 7, "name": "dog"},
        ],
    }
    ontology = read_ontology(str(write(tmp_path, "instances.json", json.dumps(coco))))
    assert shape(ontology) == [("Dr. Pepper_can", ["Dr Pepper can"]), ("dog", ["dog"]), ("hair_drier", ["hair drier"])]


ULTRALYTICS = """\
# Ultralytics 🚀 AGPL-3.0 License - https://ultralytics.com/license
path: coco8 # dataset root dir
train: images/train # train images (relative to 'path') 4 images
val: images/val # val images (relative to 'path') 4 images
test: # test images (optional)

# Classes
names:
"""


@pytest.mark.parametrize(
    "names",
    [
        "  0: person\n  1: traffic_light\n  2: cat\n",
        "  2: cat\n  0: person\n  1: traffic_light\n",
        "  '0': person\n  '1': traffic_light\n  '2': cat\n",
        "  - person\n  - traffic_light\n  - cat\n",
        "  [person, traffic_light, cat]\nnc: 3\n",
    ],
)
def test_ultralytics_data_yaml(tmp_path: Path, names: str) -> None:
    ontology = read_ontology(write(tmp_path, "data.yaml", ULTRALYTICS + names))
    assert shape(ontology) == [("person", ["person"]), ("traffic_light", ["traffic light"]), ("cat", ["cat"])]


def test_the_data_yaml_files_that_ultralytics_ships() -> None:
    spec = importlib.util.find_spec("ultralytics")  # the import takes seconds
    if spec is None or spec.origin is None:
        pytest.skip("ultralytics is not installed")
    folder = Path(spec.origin).parent / "cfg" / "datasets"
    for name, count in {"coco.yaml": 80, "lvis.yaml": 1203, "Objects365.yaml": 365, "VOC.yaml": 20}.items():
        names = yaml.safe_load((folder / name).read_text(encoding="utf-8"))["names"]
        assert read_ontology(folder / name).class_names == tuple(names[class_id] for class_id in range(count))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.json", '{"golden_retriever": "dog", "cat": "cat", "puppy": "dog"}'),
        ("map.yaml", "golden_retriever: dog\ncat: cat\npuppy: dog\n"),
        ("map.toml", 'golden_retriever = "dog"\ncat = "cat"\npuppy = "dog"\n'),
        ("list.txt", "golden_retriever=dog\ncat\npuppy = dog\n"),
    ],
)
def test_prompt_to_class_pairs(tmp_path: Path, name: str, text: str) -> None:
    expected = [("dog", ["golden_retriever", "puppy"]), ("cat", ["cat"])]
    assert shape(read_ontology(write(tmp_path, name, text))) == expected


def test_plain_lines(tmp_path: Path) -> None:
    text = "# animals\n\n  dog  \n\tred panda # the small one\r\nC# book\n   # plants\nbell pepper, capsicum"
    ontology = read_ontology(write(tmp_path, "words.txt", text))
    assert ontology.class_names == ("dog", "red panda", "C# book", "bell pepper, capsicum")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        # empty, or another content
        ("a.txt", "# only a comment\n\n", "no class"),
        ("a.toml", "", "no ontology in it"),
        ("a.yaml", "", "no ontology in it"),
        ("a.yaml", "just a line", "no ontology in it"),
        ("a.json", "{}", "no ontology in it"),
        ("a.json", "[]", "no ontology in it"),
        ("a.json", '{"version": 5, "shapes": []}', "keys are 'shapes', 'version'; expected class"),
        ("a.toml", '[[clas]]\nname = "dog"\n', "keys are 'clas'; expected class"),
        ("a.csv", "dog,cat", r"use \.toml, \.yaml, \.yml, \.json, \.xml or \.txt"),
        ("a", "dog", "unknown ontology format"),
        # syntax
        ("a.toml", 'distractors = []\n[[class]\nname = "dog"', "not valid TOML: .*line 2, column 8"),
        ("a.toml", "[[class]]\nname = dog", "not valid TOML: .*line 2, column 8"),
        ("a.json", '{\n  "dog": }', "not valid JSON: .*line 2 column 10"),
        ("a.json", "", "not valid JSON"),
        ("a.json", "[" * 100_000, "not valid JSON"),
        ("a.yaml", "names:\n  - [dog\n  - cat\n", r"not valid YAML: .*\(at line 4, column 1\)"),
        ("a.yaml", "names: [dog\x07]\n", "not valid YAML"),
        ("a.yaml", "!!python/object/apply:os.getcwd []", "not valid YAML: could not determine a constructor"),
        # repeated keys, which most parsers accept
        ("a.json", '{"puppy": "dog", "puppy": "cat"}', "not valid JSON: the key 'puppy' is given twice"),
        ("a.yaml", "puppy: dog\nkitten: cat\npuppy: cat\n", r"the key 'puppy' is given twice \(at line 3, column 1\)"),
        ("a.yaml", "names:\n  0: dog\n  0: cat\n  1: ant\n", "the key '0' is given twice"),
        # our own format
        ("a.toml", '[class]\nname = "dog"\n', r"write \[\[class\]\]"),
        ("a.toml", 'class = "dog"\n', r"write \[\[class\]\]"),
        ("a.toml", 'class = ["dog"]\n', "class number 1 must be a table"),
        ("a.toml", 'distractors = ["toy"]\n', "no class"),
        ("a.toml", 'model = "x"\n' + OWN_TOML, "unknown key 'model'; known keys are 'class', 'distractors'"),
        ("a.toml", '[[class]]\nname = "a"\n[[class]]\nprompt = ["b"]', "class number 2 has the unknown key 'prompt'"),
        ("a.toml", '[[class]]\nprompts = ["b"]', "class number 1 has no name"),
        ("a.toml", '[[class]]\nname = "a"\nprompts = []', "class number 1 has no prompts"),
        ("a.toml", '[[class]]\nname = "a"\nprompts = "b"', "class 'a': prompts must be a list, not str"),
        ("a.toml", '[[class]]\nname = "a"\ndistractors = ["b"]', "move them to the top of the file"),
        ("a.toml", '[[class]]\nname = "a"\nmin_score = nan', "class 'a': min_score must be a number"),
        ("a.toml", '[[class]]\nname = "a"\nmin_score = true', "class 'a': min_score must be a number"),
        ("a.toml", '[[class]]\nname = " "', "class name is blank"),
        ("a.toml", '[[class]]\nname = "a"\n[[class]]\nname = "A"', "two classes are named 'a' and 'A'"),
        ("a.yaml", "class: [{name: no}]", r"must be text, not bool \(False\); put it in quotes"),
        ("a.yaml", "class:\ndistractors:\n", "'class' must be a list"),
        # COCO
        ("a.json", '{"images": [], "annotations": [], "categories": []}', "no class"),
        ("a.json", '{"categories": {"1": "dog"}}', "'categories' must be a list"),
        ("a.json", '{"categories": [{"id": 1}]}', "COCO category"),
        ("a.json", '{"categories": [{"id": "1a", "name": "dog"}]}', "COCO category"),
        ("a.json", '{"categories": ["dog", 5]}', "COCO category"),
        ("a.json", '{"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}', "two COCO categories"),
        ("a.json", '{"categories": [{"id": 1, "name": "a_b"}, {"id": 2, "name": "a b"}]}', "'a b' is given twice"),
        # Ultralytics
        ("a.yaml", ULTRALYTICS, "'names' must be a list"),
        ("a.yaml", ULTRALYTICS + "  []", "no class"),
        ("a.yaml", ULTRALYTICS + "  1: dog\n  2: cat", "run from 0 to 1"),
        ("a.yaml", ULTRALYTICS + "  0: dog\n  2: cat", "run from 0 to 1"),
        ("a.yaml", ULTRALYTICS + "  yes: dog\n  0: cat", "run from 0 to 1"),
        ("a.yaml", ULTRALYTICS + "  - dog\n  - off\n", "must be text, not bool"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path, name, text)
    with pytest.raises(OntologyError, match=message) as caught:
        read_ontology(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "latin1.txt").write_bytes("cafés".encode("latin-1"))
    messages = {"gone.toml": "cannot be read", "folder.toml": "cannot be read", "latin1.txt": "not UTF-8 text (byte 3)"}
    for name, message in messages.items():
        with pytest.raises(OntologyError, match=re.escape(message)) as caught:
            read_ontology(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")


def test_utf16_of_windows_powershell(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("dog\r\ncat\r\n".encode("utf-16"))
    assert read_ontology(tmp_path / "a.txt").class_names == ("dog", "cat")


def test_yaml_merge_keys_may_be_overridden(tmp_path: Path) -> None:
    text = "class:\n  - &base {name: dog, min_score: 0.3}\n  - {<<: *base, name: cat}\n"
    ontology = read_ontology(write(tmp_path, "a.yaml", text))
    assert ontology == Ontology((ClassSpec("dog", min_score=0.3), ClassSpec("cat", min_score=0.3)))


# --- writing


def test_the_written_file_says_what_any_toml_reader_expects(tmp_path: Path) -> None:
    path = tmp_path / "pets.toml"
    write_ontology(path, PETS)
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {
        "distractors": ["toy dog", "plush"],
        "class": [
            {"name": "dog", "prompts": ["golden retriever", "puppy"], "min_score": 0.4},
            {"name": "cat", "prompts": ["cat"]},
        ],
    }
    assert path.read_text(encoding="utf-8").count("[[class]]\n") == 2
    assert os.listdir(tmp_path) == ["pets.toml"]


@pytest.mark.parametrize(
    "ontology",
    [
        PETS,
        Ontology((ClassSpec("dog"),)),
        Ontology((ClassSpec("a", min_score=0), ClassSpec("b", min_score=1), ClassSpec("c", min_score=1e-07))),
        Ontology(
            (ClassSpec("naïve 犬 🐕‍🦺", ('a "big" one', "it's", "back\\slash", "#1 [dog] = x")),), ("'''", "соба")
        ),
        Ontology((ClassSpec("e.g. a? dog", ("dog",)), ClassSpec("x" * 200), ClassSpec("true"), ClassSpec("1"))),
    ],
)
def test_what_is_written_reads_back_equal(tmp_path: Path, ontology: Ontology) -> None:
    write_ontology(str(tmp_path / "a.toml"), ontology)
    back = read_ontology(tmp_path / "a.toml")
    assert back == ontology
    assert back.digest == ontology.digest


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "pets.toml", OWN_TOML)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OntologyError, match=r"pets\.toml: cannot be written \(No space left"):
        write_ontology(path, Ontology((ClassSpec("ant"),)))
    assert path.read_text(encoding="utf-8") == OWN_TOML
    assert os.listdir(tmp_path) == ["pets.toml"]


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = write(tmp_path, "pets.toml", OWN_TOML)
    write_ontology(path, Ontology((ClassSpec("ant"),)))
    assert read_ontology(path).class_names == ("ant",)


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path, "file", "")
    for name in ("gone/a.toml", "file/a.toml"):
        with pytest.raises(OntologyError, match=r"a\.toml: cannot be written"):
            write_ontology(tmp_path / name, PETS)
    with pytest.raises(OntologyError, match=r"a\.yaml: .*use a name that ends in \.toml"):
        write_ontology(tmp_path / "a.yaml", PETS)
    assert not (tmp_path / "a.yaml").exists()


def test_importing_ontologies_loads_no_model_library_and_no_other_package_of_ours() -> None:
    heavy = {"torch", "transformers", "autodistill", "numpy", "labeler", "workflows"}
    code = f"import sys, ontologies; print(sorted({heavy!r} & set(sys.modules)))"
    root = Path(ontologies.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
