"""Vocabularies: the built-in lists, compared with an independent copy of the class names, and users' files."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from ontologies import (
    VOCABULARIES,
    ClassSpec,
    Ontology,
    OntologyError,
    OntologyWarning,
    read_ontology,
    read_vocabulary,
)

SIZES = {"coco": 80, "lvis": 1203, "objects365": 365, "openimages": 601}
ULTRALYTICS = {
    "coco": "coco.yaml",
    "lvis": "lvis.yaml",
    "objects365": "Objects365.yaml",
    "openimages": "open-images-v7.yaml",
}
MENDED = {"coco": 0, "lvis": 12, "objects365": 14, "openimages": 6}
SHIPPED = Path(__file__).parents[2] / "ontologies" / "vocabularies"


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "words.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


# --- the built-in lists


def test_every_shipped_list_is_named_and_every_name_is_shipped() -> None:
    assert sorted(VOCABULARIES) == sorted(SIZES) == sorted(path.stem for path in SHIPPED.glob("*.txt"))


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_shipped_list_is_whole_and_each_word_is_a_class_and_a_prompt(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        words = read_vocabulary(name)
        ontology = Ontology(tuple(map(ClassSpec, words)))  # refuses repeats and separators, warns of negation
    assert len(words) == SIZES[name]
    assert [prompt for prompt, _ in ontology.prompts] == list(words)
    assert read_ontology(SHIPPED / f"{name}.txt").class_names == words


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_shipped_list_is_plain_text(name: str) -> None:
    content = (SHIPPED / f"{name}.txt").read_bytes()
    assert content.decode() == "".join(f"{word}\n" for word in read_vocabulary(name))
    for word in read_vocabulary(name):
        assert re.fullmatch(r"[A-Za-z]+(?:[ '-]+[A-Za-z]+|'s)*(?: 1 car)?", word), word


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_shipped_list_has_the_order_of_its_dataset(name: str) -> None:
    spec = find_spec("ultralytics")
    if spec is None or spec.origin is None:
        pytest.skip("needs ultralytics")
    path = Path(spec.origin).parent / "cfg" / "datasets" / ULTRALYTICS[name]
    names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
    words = read_vocabulary(name)
    assert len(words) == len(names)

    def letters(text: str) -> str:
        return re.sub(r"[^a-z]", "", text.lower())

    # Line by line, so that a shift is noticed; words may differ if they were corrected or qualified.
    other = {
        word: names[class_id]
        for class_id, word in enumerate(words)
        if letters(word) not in [letters(synonym) for synonym in names[class_id].split("/")]
    }
    assert len(other) == MENDED[name], other


def test_the_lists_come_with_the_package(tmp_path: Path) -> None:
    code = "from ontologies import *; print(*(len(read_vocabulary(name)) for name in VOCABULARIES))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert answer.stdout.split() == [str(SIZES[name]) for name in VOCABULARIES]


# --- users' files


def test_a_file_is_read_in_its_order_without_comments_and_blank_lines(tmp_path: Path) -> None:
    text = "\ufeff# mine\r\n\r\n  sea   lion \r\nfork # of a road\r\nC# book\r\n#end\r\nÉclair"
    assert read_vocabulary(write(tmp_path, text)) == ("sea lion", "fork", "C# book", "Éclair")
    assert read_vocabulary(str(tmp_path / "words.txt")) == ("sea lion", "fork", "C# book", "Éclair")


def test_a_shipped_name_wins_over_a_file_and_a_path_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "coco").write_text("palm\n")
    monkeypatch.chdir(tmp_path)
    assert len(read_vocabulary("coco")) == 80
    assert read_vocabulary("./coco") == ("palm",)


def test_ten_thousand_repeats_are_one_warning_that_counts_them(tmp_path: Path) -> None:
    path = write(tmp_path, "Dog\ncat\n" + "dog\n" * 4_999 + " DOG\n" * 5_000 + "cat\n")
    with pytest.warns(OntologyWarning) as caught:
        assert read_vocabulary(path) == ("Dog", "cat")
    assert len(caught) == 1
    assert str(caught[0].message).startswith(f"{path}: 10000 words are repeated")
    assert "\n" not in str(caught[0].message)
    assert caught[0].filename == __file__


def test_one_repeat_is_counted_too(tmp_path: Path) -> None:
    with pytest.warns(OntologyWarning, match="1 word is repeated and left out, such as 'sea  ?lion'"):
        assert read_vocabulary(write(tmp_path, "sea lion\nsea  lion\n")) == ("sea lion",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no words in it; write one per line"),
        ("# none\n \n", "there are no words in it"),
        (b"dog\n\xff\xfe", "not UTF-8 text .byte 4.; save it as UTF-8"),
        ("dog\nst. bernard\n", r"line 2 contains '\.', which splits it in two for detectors .'st. bernard'"),
        ("dog?\n", r"line 1 contains '\?'"),
        ("dog\n\na\x00b\n", "line 3 contains a control character"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(OntologyError, match=f"^{re.escape(str(path))}: {message}") as caught:
        read_vocabulary(path)
    assert "\n" not in str(caught.value)


def test_neither_name_nor_file(tmp_path: Path) -> None:
    with pytest.raises(OntologyError, match=r"^cocoo: no such vocabulary or file; give one of coco, lvis") as caught:
        read_vocabulary("cocoo")
    assert "\n" not in str(caught.value)
    with pytest.raises(OntologyError, match=r"cannot be read \(Is a directory\)"):
        read_vocabulary(tmp_path)
