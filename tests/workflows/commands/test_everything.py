"""``--everything`` on the command line: no classes, no detector, one class in the dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command_line import run_in_process, write_scenes

SETTINGS = ("--points-per-side", 4, "--point-mask-score", 0, "--point-stability", 0, "--device", "cpu")


@pytest.mark.parametrize(("classes", "name"), [((), "object"), (("--classes", "shape"), "shape")])
def test_all_masks_are_of_one_class(classes: tuple[str, ...], name: str, tmp_path: Path) -> None:
    write_scenes(tmp_path / "images", range(2))
    command = ("label", tmp_path / "images", "-o", tmp_path / "out", "--model", "demo", "--everything")
    run = run_in_process(*command, *SETTINGS, *classes)
    assert run.returncode == 0, run.stderr
    categories = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["categories"]
    assert [category["name"] for category in categories] == [name]
    labeling = json.loads((tmp_path / "out/run/run.json").read_text())["labeling"]
    assert (labeling["labeler"], labeling["points_per_side"], "detector" in labeling) == ("everything", 4, False)
    records = pq.read_table(tmp_path / "out/run/records").to_pylist()
    instances = [instance for record in records for instance in record["instances"]]
    assert len(instances) > 2
    assert {(each["prompt"], each["score"]) for each in instances} == {(name, 1.0)}
    other = run_in_process(*command, "--points-per-side", 5, *classes)
    assert other.returncode == 2
    assert "was labeled with another" in other.stderr
    assert "points_per_side" in other.stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--everything --classes cat,dog", "name one class instead of 2, or none"),
        ("--everything --classes puppy=dog,dog", "--everything reads no prompts"),
        ("--everything --detector embedded:detector", "--everything runs no detector; leave out --detector"),
        ("--everything --tagger auto", "--everything looks for no words; leave out --tagger"),
        ("--everything --vocabulary coco", "--everything looks for no words; leave out --vocabulary"),
        ("--everything --labeler grounded-sam", "leave out --labeler grounded-sam"),
        ("--classes cat --crop-layers 1", "--crop-layers is for --everything; add it"),
        ("--everything --crop-layers 5", "--crop-layers must be a whole number from 0 to 4, not 5"),
    ],
)
def test_options_that_cannot_be_meant(flags: str, says: str, tmp_path: Path) -> None:
    run = run_in_process("label", tmp_path, "-o", tmp_path / "out", "--model", "demo", *flags.split())
    assert run.returncode == 2
    assert says in run.stderr
