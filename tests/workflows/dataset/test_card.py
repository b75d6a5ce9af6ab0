"""The card of a dataset, and that one of the user stays."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from labeler.decisions import Decision
from labeler.models.identity import model_identity
from labeler.quality_config import QualityConfig
from tests.support.command_line import run_in_process
from tests.support.made_folder import write_labeled
from tests.support.run_folders import ONTOLOGY, instance, make_run
from tests.support.run_settings import run_settings
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.export import export
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

FOUND = (instance(0, 0.9, 0), instance(1, 0.8, 20), instance(0, 0.5, 40))
LABELING = {
    "detector": model_identity("embedded:detector"),
    "segmenter": "blake2b:0123",
    "also": {"detector": "facebook/sam3@v1"},
    "tagging": {"tagger": "vocabulary", "tagger_model": None},
}
MODEL = {"segmenter": "/home/me/weights/own.pt"}


@pytest.fixture
def labeled(tmp_path: Path) -> tuple[RunFolder, Path]:
    run, root = make_run(tmp_path, ["a.png", "b.png", "sub/c.png"], FOUND)
    settings = run_settings(root, labeling=LABELING)
    run.settings.write(replace(settings, model=settings.model | MODEL))
    return run, root


def digest_in(card: str) -> str:
    (digest,) = re.findall(r"Content digest: `([0-9a-f]{64})`", card)
    return digest


def test_what_the_card_says(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(
        run, root, ONTOLOGY, ExportConfig(val_share=0, formats=("coco", "hf"), quality=QualityConfig(accept_score=0.7))
    )
    card = (run.output / "README.md").read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "hf/train/**"}]},
    ]
    for line in (
        "# Instance segmentation: dog, cat",
        "| train | 3 |",
        "| dog | 3 |",
        "| cat | 3 |",
        "| detector | embedded:detector | Apache-2.0 |",
        "| segmenter | own.pt (blake2b:0123) | unknown |",
        "| detector | facebook/sam3@v1 | SAM License |",
        "| accept score | 0.70 |",
        "| min score of cat | 0.60 |",
    ):
        assert line in card.splitlines()
    assert str(root.parent) not in card


def test_the_digest_changes_with_the_content_alone(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    cards = []
    for config in (
        ExportConfig(val_share=0),
        ExportConfig(val_share=0, link="copy"),
        ExportConfig(val_share=0, quality=QualityConfig(accept_score=0.7)),
        ExportConfig(val_share=0),
    ):
        export(run, root, ONTOLOGY, config)
        cards.append((run.output / "README.md").read_text())
    assert cards[0] == cards[1] == cards[3]
    assert digest_in(cards[2]) != digest_in(cards[0])
    label = run.output / "labels" / "train" / "a.txt"
    label.write_text("")
    assert export(run, root, ONTOLOGY, ExportConfig(val_share=0)).edited == ["labels/train/a.txt"]
    assert digest_in((run.output / "README.md").read_text()) not in map(digest_in, cards)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_readme_of_the_user_stays(overwrite: bool, labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    own = run.output / "README.md"
    own.write_text("mine")
    for _ in range(2):
        assert export(run, root, ONTOLOGY, ExportConfig(), overwrite_edits=overwrite).edited == []
        assert own.read_text() == "mine"


def test_an_edited_card_stays_unless_edits_are_overwritten(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, ExportConfig())
    own = run.output / "README.md"
    written = own.read_text()
    own.write_text(written + "mine\n")
    assert export(run, root, ONTOLOGY, ExportConfig()).edited == ["README.md"]
    assert own.read_text() == written + "mine\n"
    export(run, root, ONTOLOGY, ExportConfig(), overwrite_edits=True)
    assert own.read_text() == written


def test_metrics_are_those_of_the_labels_of_now(tmp_path: Path) -> None:
    """Of the last evaluation, and only while records, decisions and thresholds are those that it measured."""
    names = [f"{number}.png" for number in range(6)]
    out = write_labeled(tmp_path, names, ["dog", "cat"], side=64)
    truth = tmp_path / "private" / "truth.json"
    truth.parent.mkdir()
    assert run_in_process("export", out, "--val-share", "0").returncode == 1  # one image could not be labeled
    shutil.copy(out / "annotations" / "instances_train.json", truth)

    def card(*flags: str) -> str:
        assert run_in_process("export", out, *flags).returncode == 0
        return (out / "README.md").read_text()

    assert run_in_process("evaluate", out, "--ground-truth", truth).returncode == 0
    measured = card()
    evaluation = json.loads((out / "evaluation" / "evaluation.json").read_text())
    total = evaluation["all"]
    assert total["precision"] == 1
    for line in (
        f"Measured against truth.json, on {evaluation['images']} images.",
        f"| mask AP | {total['mask']['ap']:.3f} |",
        f"| box AP | {total['box']['ap']:.3f} |",
        f"| precision at IoU 0.5 | {total['precision']:.3f} |",
        f"| F1 at IoU 0.5 | {total['f1']:.3f} |",
    ):
        assert line in measured.splitlines()
    assert "private" not in measured
    assert "were not measured" in card("--accept-score", "0.6")
    assert card("--defaults", "--val-share", "0") == measured
    assert card("--seed", "7") == measured  # how images are split changes no label
    run = RunFolder(out)
    record = next(each for each in run.labeled() if each.instances)
    append_decisions(run, [Decision(record.image_id, "reject", "dog", record.instances[0].rle)])
    assert "were not measured" in card()
    assert run_in_process("evaluate", out, "--ground-truth", truth).returncode == 0
    assert "Measured against truth.json" in card()
    content = json.dumps({**json.loads((out / "evaluation" / "evaluation.json").read_text()), "all": {}})
    for damaged in ("[", "{}", content):
        (out / "evaluation" / "evaluation.json").write_text(damaged)
        assert "were not measured" in card()
