"""``--everything`` on the command line: no classes, no detector, one class in the dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from labeler.demo.scenes import make_scene, scene_rng
from labeler.models.kinds.everything import EverythingKind
from ontologies import ClassSpec, Ontology
from tests.support.command_line import run_in_process
from workflows.commands.labeler_options import LabelerOptions, ModelOptions, OntologyOptions

SETTINGS = ("--points-per-side", 2, "--point-mask-score", 0, "--point-stability", 0)


def test_all_masks_are_of_one_class(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(make_scene(scene_rng(5, 1), 96).image).save(tmp_path / "images" / "scene.png")
    command = (
        "label",
        tmp_path / "images",
        "-o",
        tmp_path / "out",
        "--model",
        "demo",
        "--device",
        "cpu",
        "--everything",
    )
    run = run_in_process(*command, *SETTINGS)
    assert run.returncode == 0, run.stderr
    categories = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["categories"]
    assert [category["name"] for category in categories] == ["object"]
    description = json.loads((tmp_path / "out/run/run.json").read_text())
    labeling = description["labeling"]
    assert (labeling["labeler"], labeling["points_per_side"], "detector" in labeling) == ("everything", 2, False)
    assert description["family"] == "everything"
    (record,) = pq.read_table(tmp_path / "out/run/records").to_pylist()
    assert record["instances"]
    assert {(each["prompt"], each["score"]) for each in record["instances"]} == {("object", 1.0)}
    other = run_in_process(*command, "--everything", "--points-per-side", 3)
    assert other.returncode == 2
    assert "was labeled with another" in other.stderr
    assert "points_per_side" in other.stderr


@pytest.mark.parametrize("options", [LabelerOptions(everything=True), LabelerOptions("everything")])
def test_a_given_class_names_the_masks(options: LabelerOptions) -> None:
    kind, ontology = options.made(OntologyOptions("shape"), ModelOptions("demo"))
    assert (kind, ontology) == (EverythingKind(), Ontology((ClassSpec("shape"),)))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--everything --classes cat,dog", "name one class instead of 2, or none"),
        ("--everything --classes puppy=dog,dog", "--everything reads no prompts"),
        ("--everything --detector embedded:detector", "--everything runs no detector; leave out --detector"),
        ("--everything --tagger auto", "--everything looks for no words; leave out --tagger"),
        ("--everything --vocabulary coco", "--everything looks for no words; leave out --vocabulary"),
        ("--everything --boxes boxes.json", "--everything and --boxes both say where masks come from"),
        ("--everything --labeler grounded-sam", "leave out --labeler grounded-sam"),
        ("--classes cat --crop-layers 1", "--crop-layers is for --everything; add it"),
        ("--everything --crop-layers 5", "--crop-layers must be a whole number from 0 to 4, not 5"),
    ],
)
def test_options_that_cannot_be_meant(flags: str, says: str, tmp_path: Path) -> None:
    run = run_in_process("label", tmp_path, "-o", tmp_path / "out", "--model", "demo", *flags.split())
    assert run.returncode == 2
    assert says in run.stderr
