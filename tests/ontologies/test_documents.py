"""Texts that are built to hang or crash who reads them, and texts that only look like it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from labeler.errors import LabelerError, UsageError
from labeler.files.documents import load_json
from labeler.formats.coco_file import read_coco
from labeler.formats.yolo_reader import read_yolo
from ontologies import OntologyError
from ontologies.documents import DocumentError, parse_json, parse_toml, parse_yaml, read_at_most
from ontologies.sources import read_ontology
from workflows.commands.config_file import read_config

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
MERGED = "a: &a {" + ", ".join(f"k{n}: 1" for n in range(999)) + "}\n"
MERGED += "".join(f"b{n}: {{<<: [{', '.join(['*a'] * 99)}]}}\n" for n in range(99))

HOSTILE: list[tuple[Callable[[bytes | str], Any], bytes | str, str]] = [
    (parse_json, "[" * 100_000, "nested too deep"),
    (parse_json, '{"a":' * 100_000, "nested too deep"),
    (parse_json, "[" * 500 + "]" * 500, "nested too deep"),
    (parse_json, "9" * 5000, "a number of more than 4300 digits"),
    (parse_json, '{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' is given twice"),
    (parse_json, b'{"a": "\xff"}', "not UTF-8 text (byte 7); save it as UTF-8"),
    (parse_json, b"\xff\xfe{", "not UTF-16 text"),
    (parse_json, b"\0" * 100, "not valid JSON"),
    (parse_json, "", "not valid JSON"),
    (parse_toml, "a = " + "[" * 100_000, "nested too deep"),
    (parse_toml, "a = " + "{b = " * 100_000, "nested too deep"),
    (parse_toml, ".".join(["a"] * 100_000) + " = 1", "nested too deep"),
    (parse_toml, "[" + " . ".join(['"a"'] * 100_000) + "]", "nested too deep"),
    (parse_toml, "a = " + "9" * 5000, "a number of more than 4300 digits"),
    (parse_toml, "a = 1\na = 2", "not valid TOML"),
    (parse_toml, " " * 5_000_000, "larger than 4 MiB"),
    (parse_yaml, LAUGHS, "its aliases stand for far more values than the file holds"),
    (parse_yaml, f"{LAUGHS}names: !!pairs [x: *a29]", "its aliases stand for far more"),
    (parse_yaml, MERGED, "merges too many keys"),
    (parse_yaml, "a: &a [*a]", "nested too deep"),
    (parse_yaml, "a: &a {<<: *a}", "nested too deep"),
    (parse_yaml, "[" * 5_000, "nested too deep"),
    (parse_yaml, "- " * 100_000, "nested too deep"),
    (parse_yaml, "a: " + ":".join(["1"] * 9_999), "a number of more than 4300 digits"),
    (parse_yaml, "a: 0x" + "f" * 9_999, "a number of more than 4300 digits"),
    (parse_yaml, "a: !!bool x", "not valid YAML"),
    (parse_yaml, "a: !!int ''", "not valid YAML"),
    (parse_yaml, "a: !!timestamp x", "not valid YAML"),
    (parse_yaml, "a: 2001-99-99", "not valid YAML"),
    (parse_yaml, "a: !!python/object/apply:os.system [id]", "not valid YAML"),
    (parse_yaml, "a: 1\na: 2", "the key 'a' is given twice (at line 2, column 1)"),
    (parse_yaml, " " * 3_000_000, "larger than 2 MiB"),
]


@pytest.mark.parametrize(("parse", "text", "says"), HOSTILE)
def test_hostile_texts_are_refused_in_one_line(
    parse: Callable[[bytes | str], Any], text: bytes | str, says: str
) -> None:
    with pytest.raises(DocumentError) as refused:
        parse(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("parse", "reference", "text"),
    [
        (parse_json, json.loads, '{"a": [1, 2.5, {"b": null}], "n": NaN, "e": "\\ud83d\\ude00"}'),
        (parse_json, json.loads, "[" * 99 + "]" * 99),
        (parse_json, json.loads, "9" * 4000),
        (parse_toml, tomllib.loads, 'a.b.c = 1\n"www.x.y".z = [1.5, 2.5]\nd = 2020-01-01\n'),
        (parse_toml, tomllib.loads, f"prompt = '{'1.0 ' * 300}{'a.' * 90}'"),
        (parse_yaml, yaml.safe_load, "base: &b {x: 1, y: 2}\nc: {<<: *b, x: 3}\nd: [*b, *b]\n"),
        (parse_yaml, yaml.safe_load, "names:\n  0: person\n  1: 0x1F\n  2: 1:30\n  3: .inf\n  4: 2001-01-01\n"),
    ],
)
def test_other_texts_mean_what_they_mean_to_every_reader(
    parse: Callable[[bytes | str], Any], reference: Callable[[str], Any], text: str
) -> None:
    expected = repr(reference(text))  # NaN is not equal to itself
    for data in (text, text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        assert repr(parse(data)) == expected


def test_files_of_holes_are_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with open(path, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match=r"larger than 4096 MiB.*a\.json"):
        load_json(path)
    with pytest.raises(DocumentError, match="larger than 1 MiB"):
        read_at_most(path, 2**20)


def test_every_reader_refuses_them_by_the_name_of_the_file(tmp_path: Path) -> None:
    def config(path: Path) -> object:
        return read_config(str(path), "label", ())

    readers: list[tuple[str, Callable[[Path], object], str, type[Exception]]] = [
        ("a.yaml", read_ontology, f"{LAUGHS}names: *a29", OntologyError),
        ("data.yaml", read_yolo, f"{LAUGHS}names: *a29", LabelerError),
        ("b.json", read_ontology, "[" * 100_000, OntologyError),
        ("truth.json", read_coco, '{"images":' * 100_000, LabelerError),
        ("config.toml", config, "a" + ".a" * 100_000 + " = 1", UsageError),
    ]
    for name, read, text, kind in readers:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        with pytest.raises(kind) as refused:
            read(path)
        assert str(refused.value).startswith(f"{path}: "), name
        assert "\n" not in str(refused.value)
