"""The card of a dataset, and that one of the user stays."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from labeler.quality_config import QualityConfig
from tests.support.run_folders import ONTOLOGY, instance, make_run
from tests.support.run_settings import run_settings
from workflows.dataset.export import export
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

FOUND = (instance(0, 0.9, 0), instance(1, 0.8, 20), instance(0, 0.5, 40))
LABELING = {"detector": "embedded:detector", "segmenter": "/home/me/weights/own.pt"}


@pytest.fixture
def labeled(tmp_path: Path) -> tuple[RunFolder, Path]:
    run, root = make_run(tmp_path, ["a.png", "b.png", "sub/c.png"], FOUND)
    run.settings.write(run_settings(root, labeling=LABELING))
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
        "| segmenter | own.pt | unknown |",
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
