"""``--tile``, ``--views`` and ``--also`` at the command line, with the demo weights."""

from __future__ import annotations

from pathlib import Path

import pandas
import pytest

from labeler.models.kinds.consensus import ConsensusKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.tiled import TiledKind
from tests.support.command_line import CLASSES, Run, options_of, write_scenes
from tests.support.stand_in import Silent, StandIn, stand_in_job, write_images
from workflows.commands.job_options import job_of
from workflows.label import label

DEMO = ("--model", "demo", "--device", "cpu", "--classes", CLASSES)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tile", "63"], "--tile must be auto or a whole number of pixels from 64 to 999999, not '63'"),
        (["--tile", "big"], "--tile must be auto or a whole number of pixels from 64 to 999999, not 'big'"),
        (["--tile", "640", "--tile-overlap", "0.9"], "--tile-overlap must be a number from 0 to below 0.9, not 0.9"),
        (["--tile-overlap", "0.2"], "--tile-overlap is for tiles; add --tile 640 or --tile auto"),
        (["--views", "rotated"], "--views must be one of mirror, not 'rotated'"),
        (["--also", "fast", "--labeler", "sam3", "--prompts-per-caption", "2"], "--prompts-per-caption is not for"),
        (["--also", "demo"], "--also demo: these are the models that run already; choose another preset"),
    ],
)
def test_what_cannot_be_meant_is_told_at_once(flags: list[str], message: str, tmp_path: Path, labeler: Run) -> None:
    done = labeler("label", tmp_path, "-o", tmp_path / "out", *DEMO, *flags)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--tile", "640"], ["--views", "mirror"], ["--also", "fast"]])
def test_what_labels_whole_images_only_is_refused(flags: list[str], tmp_path: Path, labeler: Run) -> None:
    boxes = tmp_path / "boxes.json"
    boxes.write_text(
        '{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],'
        ' "categories": [{"id": 1, "name": "dog"}],'
        ' "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]}'
    )
    done = labeler("label", tmp_path, "-o", tmp_path / "out", "--model", "demo", "--boxes", boxes, *flags)
    assert done.returncode == 2
    assert f"{flags[0]} is not for --boxes: the boxes are those of whole images" in " ".join(done.stderr.split())
    done = labeler("label", tmp_path, "-o", tmp_path / "out", "--model", "demo", "--everything", *flags)
    assert done.returncode == 2
    assert f"{flags[0]} is not for --everything: it has crops of its own" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("widths", "tiles", "told"),
    [
        ([40, 64], TiledKind(StandIn(), 64),
         "--tile 64: only images with a side of 65 pixels or more are divided, and the longest here has 64, so all "
         "were labeled whole only; choose a smaller tile"),
        ([40, 65], TiledKind(StandIn(), 64), None),
        ([479], ConsensusKind(TiledKind(StandIn(), None), mirror=True),
         "--tile auto: only images with a side of 480 pixels or more are divided, and the longest here has 479, so all "
         "were labeled whole only"),
    ],
)  # fmt: skip
def test_tiles_in_vain_are_told_once(widths: list[int], tiles: LabelerKind, told: str | None, tmp_path: Path) -> None:
    write_images(tmp_path / "images", widths)
    silent = Silent()
    label(stand_in_job(tmp_path / "images", tmp_path / "out", tiles), silent)
    assert [line for line in silent.said if "--tile" in line] == ([told] if told else [])


def test_tiles_and_both_views(tmp_path: Path, labeler: Run) -> None:
    """An image of 320 pixels in tiles of 240, straight and mirrored."""
    write_scenes(tmp_path / "images", [0])
    out = tmp_path / "out"
    command = ("label", tmp_path / "images", "-o", out, *DEMO)
    flags = ("--tile", "240", "--views", "mirror")
    assert labeler(*command, *flags).returncode == 0
    (row,) = pandas.read_parquet(out / "run" / "records").to_dict("records")
    assert {each["agreement"] for each in row["instances"]} <= {0.5, 1.0}
    assert max(each["agreement"] * each["score"] for each in row["instances"]) > 0.3
    again = labeler(*command, *flags)
    assert again.returncode == 0
    assert "0 to label" in again.stdout or "already" in again.stdout + again.stderr
    other = labeler(*command, "--tile", "240")
    assert (
        other.returncode,
        "was labeled with another views; choose another -o" in " ".join(other.stderr.split()),
    ) == (2, True)
    accepted = labeler("export", out, "--min-agreement", "1")
    assert accepted.returncode == 0
    verdicts = pandas.read_parquet(out / "run" / "verdicts.parquet")
    low = [each["agreement"] < 1 for each in row["instances"]]
    assert not verdicts[low]["verdict"].eq("accept").any()


def test_a_second_labeler_has_the_same_tiles() -> None:
    options = options_of(["label", "images", "-o", "out", *DEMO, "--tile", "auto", "--also", "fast"])
    made = job_of(
        options.images,
        options.output,
        options.wanted,
        options.labelers,
        options.models,
        options.tagger,
        options.dataset,
    )
    models = [(each.source, each.role) for each in made.labeler.models(made.model)]
    assert models == [
        ("embedded:detector", "detector"), ("embedded:segmenter", "segmenter"),
        ("iSEE-Laboratory/llmdet_tiny", "also"), ("facebook/sam2.1-hiera-tiny", "also"),
    ]  # fmt: skip
    identity = made.labeler.identity(made.model)
    assert (identity["tile"], identity["also"]["tile"], identity["also"]["detector"]) == (
        "auto", "auto", "iSEE-Laboratory/llmdet_tiny"
    )  # fmt: skip
