"""Runs on a folder that lives: images come, change and go between one night and the next."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from labeler.files.images import read_image
from labeler.files.listing import stamps
from labeler.records import ImageRecord
from tests.support.command_line import CLASSES, Run, write_scenes
from workflows.run.folder import RunFolder

OPTIONS = ("--model", "demo", "--classes", CLASSES, "--shard-size", 2, "--device", "cpu")


def records(out: Path) -> dict[str, ImageRecord]:
    found = list(RunFolder(out).labeled())
    assert len(found) == len({record.image_id for record in found})  # one an image, whatever happened to it
    return {record.image_id: record for record in found}


def splits(out: Path) -> dict[str, str]:
    return {path.name: path.parent.name for path in (out / "images").rglob("*.png")}


def touch_later(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


@pytest.mark.parametrize("scan", [(), ("--verify-content",)], ids=["by size and times", "by content"])
def test_only_what_changed_is_labeled_again(scan: tuple[str, ...], scenes: Path, tmp_path: Path, labeler: Run) -> None:
    out = tmp_path / "out"
    assert labeler("label", scenes, "-o", out, *OPTIONS, "--link", "copy").returncode == 0
    before, where = records(out), splits(out)
    shutil.copy(scenes / "scene_003.png", scenes / "scene_001.png")  # another content, a later time
    touch_later(scenes / "scene_001.png")
    touch_later(scenes / "scene_002.png")  # touched, and yet the same
    write_scenes(scenes, [7])
    again = labeler("label", scenes, "-o", out, *OPTIONS, *scan, "--link", "copy")
    assert again.returncode == 0, again.stderr
    assert "1 images changed" in again.stdout
    assert "2 images labeled in this run" in again.stdout
    after = records(out)
    assert after.keys() == before.keys() | {"scene_007.png"}
    for name, record in after.items():
        assert record.digest == read_image(scenes / name).digest
        if name not in ("scene_001.png", "scene_007.png"):
            assert record == before[name]
    assert after["scene_001.png"].instances == before["scene_003.png"].instances
    assert {name: split for name, split in splits(out).items() if name in where} == where
    written = next((out / "images").rglob("scene_001.png"))
    assert written.read_bytes() == (scenes / "scene_001.png").read_bytes()
    third = labeler("label", scenes, "-o", out, *OPTIONS, *scan, "--link", "copy")
    assert third.returncode == 0
    assert "7 of 7 images are labeled already" in third.stdout
    assert "load" not in third.stdout.partition("seconds:")[2]


def test_what_is_gone_stays_until_pruned(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    out = tmp_path / "out"
    assert labeler("label", scenes, "-o", out, *OPTIONS).returncode == 0
    where = splits(out)
    (scenes / "scene_004.png").unlink()
    assert labeler("label", scenes, "-o", out, *OPTIONS).returncode == 0
    assert splits(out) == where
    pruned = labeler("label", scenes, "-o", out, *OPTIONS, "--prune")
    assert pruned.returncode == 0
    assert "1 images that are gone" in pruned.stdout
    del where["scene_004.png"]
    assert splits(out) == where
    assert records(out).keys() == where.keys()
    assert "are dropped" not in labeler("label", scenes, "-o", out, *OPTIONS, "--prune").stdout
    write_scenes(scenes, [4])  # and back again
    assert labeler("label", scenes, "-o", out, *OPTIONS).returncode == 0
    assert records(out).keys() == where.keys() | {"scene_004.png"}


def test_an_image_that_could_not_be_read_is_tried_again_once_it_is_another(
    scenes: Path, tmp_path: Path, labeler: Run
) -> None:
    out = tmp_path / "out"
    whole = (scenes / "scene_005.png").read_bytes()
    (scenes / "scene_005.png").write_bytes(whole[:1000])
    assert labeler("label", scenes, "-o", out, *OPTIONS).returncode == 1
    assert "labeled in this run" not in labeler("label", scenes, "-o", out, *OPTIONS).stdout
    (scenes / "scene_005.png").write_bytes(whole)
    assert labeler("label", scenes, "-o", out, *OPTIONS).returncode == 0
    assert records(out)["scene_005.png"].status == "ok"


def test_stamps_tell_size_and_time(scenes: Path) -> None:
    first, second = stamps(scenes, ["scene_000.png", "scene_001.png"])
    assert first != second
    touch_later(scenes / "scene_000.png")
    assert stamps(scenes, ["scene_000.png", "scene_001.png", "none.png"])[1:] == [second, ""]
    assert stamps(scenes, ["scene_000.png"]) != [first]
