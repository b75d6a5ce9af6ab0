"""``run.json`` as typed settings: what is read is written back, byte for byte."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labeler.errors import RunError
from labeler.migrations import migrate
from ontologies import ClassSpec, Ontology
from tests.support.frozen import FROZEN, Frozen
from tests.support.made_folder import write_labeled
from tests.support.run_settings import run_settings
from workflows.commands.cli import main
from workflows.settings.export import ExportConfig
from workflows.settings.run_json import RunJson
from workflows.settings.run_settings import DatasetSettings, RunSettings, encoded

ONTOLOGY = Ontology((ClassSpec("dog", ("dog", "puppy"), 0.4), ClassSpec("cat")), ("shadow",))
WHOLE = replace(
    run_settings("/photos", ONTOLOGY, ExportConfig(seed=3), labeling={"detector": "x", "tags_only": None}),
    versions={"torch": "2.4"},
    published=DatasetSettings(ExportConfig(), {"dog": 0.4}),
    other={"note": {"mine": [1]}},
)


@pytest.mark.parametrize("settings", [WHOLE, run_settings(), replace(WHOLE, ontology=None, published=None, other={})])
def test_what_is_written_is_read(settings: RunSettings, tmp_path: Path) -> None:
    file = RunJson(tmp_path)
    file.path.parent.mkdir()
    file.write(settings)
    data = file.path.read_bytes()
    assert file.read() == settings
    file.write(file.read())
    assert file.path.read_bytes() == data


def test_the_keys_and_their_order() -> None:
    """As the first version wrote them; ``passes`` and ``published`` are what it did not have yet."""
    keys = ["version", "input", "labeling", "passes", "ontology", "model", "export", "versions", "published", "note"]
    content = WHOLE.to_json()
    assert list(content) == keys
    assert json.loads(encoded(content))["ontology"] == {
        "classes": [
            {"name": "dog", "prompts": ["dog", "puppy"], "min_score": 0.4},
            {"name": "cat", "prompts": ["cat"], "min_score": None},
        ],
        "distractors": ["shadow"],
    }


@pytest.mark.skipif(not FROZEN.exists(), reason="tests/data is not part of the source distribution")
@pytest.mark.parametrize("name", ["dataset", "tagged", "proposed.tags"])
def test_a_file_of_the_first_version_is_written_back_with_the_new_names_only(name: str, tmp_path: Path) -> None:
    path = Frozen.copied(tmp_path) / name / "run" / "run.json"
    content = migrate("run.json", json.loads(path.read_bytes()), path)
    expected = path.read_text(encoding="utf-8").replace('"version": 1', '"version": 3')
    for thresholds in {*re.findall(r'"of_classes": \{(?:[^{}]|\{[^{}]*\})*\}', expected)}:
        own = json.loads("{" + thresholds + "}")["of_classes"]
        scores = {name: each["accept_score"] for name, each in own.items() if each["accept_score"] is not None}
        indented = json.dumps(scores, indent=2, ensure_ascii=False).replace("\n", "\n      ")
        expected = expected.replace(thresholds, f'"class_accept_scores": {indented}')
    settings = RunSettings.from_json(content).to_json()
    (only_pass,) = settings.pop("passes")
    assert only_pass["labeling"] == settings["labeling"]
    prompts = [
        [each["prompts"] for each in (of["ontology"] or {"classes": ()})["classes"]] for of in (only_pass, settings)
    ]
    assert prompts[0] == prompts[1]
    written = encoded(settings).decode()
    # Settings that the first version did not have.
    for newer in (
        '      "group_share": 0.8,\n',
        ',\n      "min_agreement": 0.0',
        ',\n    "test_share": 0.0,\n    "split_by": "content"',
        ',\n    "layout": null',
        ',\n    "dataset_shards": null',
        ',\n    "version_datasets": false',
        ',\n    "simplify": 0.0,\n    "min_part": 0',
        ',\n    "image_files": "keep"',
    ):
        written = written.replace(newer, "")
    assert written == expected


def test_typed_values() -> None:
    settings = RunSettings.from_json(json.loads(encoded(WHOLE.to_json())))
    assert (settings.floor, settings.tags_only, settings.min_scores) == (0.05, False, {"dog": 0.4})
    assert replace(settings, labeling={"tags_only": True}).tags_only


def test_unknown_keys_stay_through_every_command(tmp_path: Path) -> None:
    out = write_labeled(tmp_path, [f"{number}.png" for number in range(3)], ("dog", "cat"), side=64)
    path = out / "run" / "run.json"
    content = {**json.loads(path.read_bytes()), "note": {"mine": [1]}}
    content["model"]["later"] = content["labeling"]["later"] = 7
    path.write_text(json.dumps(content))
    label = ["label", str(tmp_path / "images"), "-o", str(out), "--classes", "dog, cat", "--model", "demo"]
    for command in (
        ["export", str(out), "--seed", "3"],
        [*label, "--device", "cpu"],
        ["export", str(out), "--defaults"],
    ):
        assert main(command) in (0, 1)
        assert json.loads(path.read_bytes())["note"] == {"mine": [1]}
        if command[0] == "export":
            assert json.loads(path.read_bytes())["versions"] == content["versions"]
    assert main(["export", str(out)]) == 0


def damaged(change: Callable[[dict[str, Any]], object], folder: Path) -> RunJson:
    content = json.loads(json.dumps(WHOLE.to_json()))
    change(content)
    file = RunJson(folder)
    file.path.parent.mkdir()
    file.path.write_text(json.dumps(content))
    return file


def test_a_damaged_part_is_replaced_only_by_who_replaces_it(tmp_path: Path) -> None:
    file = damaged(lambda content: content["export"].update(seed="x"), tmp_path)
    with pytest.raises(RunError, match=r"damaged \(--seed must be a whole number, not 'x'\); reset them with"):
        file.read()
    with pytest.raises(RunError, match="reset them with"):
        file.read(replacing=("ontology",))
    assert file.read(replacing=("export",)).export == ExportConfig()
    with pytest.raises(RunError, match="reset them with"):
        file.read_before_labeling(restart=True, reset=False)
    assert file.read_before_labeling(restart=False, reset=True) == replace(WHOLE, export=ExportConfig())


def test_an_ontology_that_is_none_is_replaced_by_labeling(tmp_path: Path) -> None:
    file = damaged(lambda content: content["ontology"]["classes"][1].update(name="dog"), tmp_path)
    with pytest.raises(RunError, match=r"run.json is damaged \(ontology: .*dog.*\); put back a copy of it, or label"):
        file.read()
    settings = file.read_before_labeling(restart=False, reset=False)
    assert settings is not None
    assert settings.ontology is None
    assert "dog" in settings.faults["ontology"]


def test_a_damaged_memory_of_the_dataset_stays_until_it_is_replaced(tmp_path: Path) -> None:
    file = damaged(lambda content: content.update(published=[5]), tmp_path)
    settings = file.read()
    assert settings.published is None
    assert settings.to_json()["published"] == [5]
    assert replace(settings, published=WHOLE.published).to_json()["published"] == WHOLE.to_json()["published"]


def test_a_folder_without_a_file(tmp_path: Path) -> None:
    file = RunJson(tmp_path)
    assert file.read_before_labeling(restart=False, reset=False) is None
    with pytest.raises(RunError, match="holds no run"):
        file.read()
