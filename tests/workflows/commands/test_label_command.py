"""The ``label`` command end to end, with the embedded weights; in processes of its own where one is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from labeler.record_files import read_records
from tests.support.command_line import CLASSES, Run, contents, labeler_command, write_scenes
from tests.support.full_disk import files_up_to

OPTIONS = ("--model", "demo", "--classes", CLASSES, "--shard-size", 2, "--device", "cpu")


def test_dataset_from_a_folder(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    (scenes / "torn.jpg").write_bytes(b"no image")
    out = tmp_path / "out"
    done = labeler("label", scenes, "-o", out, *OPTIONS)
    assert done.returncode == 1, done.stderr  # one image could not be labeled
    assert "torn.jpg" in done.stdout
    records = list(read_records(sorted((out / "run" / "records").glob("*.parquet"))))
    assert [record.image_id for record in records] == sorted(path.name for path in scenes.iterdir())
    assert [record.status for record in records] == ["ok"] * 6 + ["error"]
    assert "torn.jpg" not in {path.name for path in (out / "images").rglob("*")}
    seen = set()
    for split in ("train", "val"):
        coco = COCO(out / "annotations" / f"instances_{split}.json")
        for image in coco.loadImgs(coco.getImgIds()):
            assert (out / "images" / split / image["file_name"]).read_bytes() == (
                scenes / image["file_name"]
            ).read_bytes()
            assert (out / "labels" / split / image["file_name"]).with_suffix(".txt").exists()
            seen.add(image["file_name"])
    assert seen == {record.image_id for record in records if record.status == "ok"}


def test_a_second_run_does_no_model_work_and_new_images_are_labeled_alone(
    scenes: Path, tmp_path: Path, labeler: Run
) -> None:
    out = tmp_path / "out"
    assert labeler("label", scenes, "-o", out, *OPTIONS).returncode == 0
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in (out / "run" / "records").iterdir()}
    again = labeler("label", scenes, "-o", out, *OPTIONS)
    assert again.returncode == 0
    assert "6 of 6 images are labeled already" in again.stdout
    assert "load" not in again.stdout  # no model was loaded: the stage took no time worth a word
    assert contents(out) == before

    splits = {path.name: path.parent.name for path in (out / "images").rglob("*.png")}
    write_scenes(scenes, [6, 7])
    more = labeler("label", scenes, "-o", out, *OPTIONS)
    assert more.returncode == 0
    assert "6 of 8 images are labeled already" in more.stdout
    assert {path: path.stat().st_mtime_ns for path in times} == times
    now = {path.name: path.parent.name for path in (out / "images").rglob("*.png")}
    assert {name: now[name] for name in splits} == splits
    assert len(now) == 8


def test_kill_and_resume_end_in_the_same_bytes(tmp_path: Path, labeler: Run) -> None:
    scenes, undisturbed, killed = tmp_path / "scenes", tmp_path / "undisturbed", tmp_path / "killed"
    write_scenes(scenes, range(10))
    command = ("label", scenes, "-o", killed, *OPTIONS)
    process = subprocess.Popen(labeler_command(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = killed / "run" / "records"
    deadline = time.monotonic() + 120
    while len(list(records.glob("0*.parquet"))) < 2:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done_before = len(list(records.glob("0*.parquet")))
    assert done_before < 5
    resumed = labeler(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{2 * done_before} of 10 images are labeled already" in resumed.stdout
    assert labeler("label", scenes, "-o", undisturbed, *OPTIONS).returncode == 0
    assert contents(killed) == contents(undisturbed)


def test_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    write_scenes(scenes, range(30))  # some seconds' work, for the signal to come in
    process = subprocess.Popen(
        labeler_command("label", scenes, "-o", out, *OPTIONS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list((out / "run" / "records").glob("0*.parquet")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "labeler: stopped; re-run the same command to resume\n"


def test_changed_settings_on_an_old_folder(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    out = tmp_path / "out"
    assert labeler("label", scenes, "-o", out, *OPTIONS).returncode == 0
    before = contents(out)
    other = labeler("label", scenes, "-o", out, *OPTIONS, "--max-instances", 7)
    assert other.returncode == 2
    assert "another max_instances" in other.stderr
    assert len(other.stderr.splitlines()) == 1
    assert contents(out) == before


def test_a_full_disk_is_one_line_and_the_run_goes_on(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    out = tmp_path / "out"
    command = ("label", scenes, "-o", out, *OPTIONS, "--link", "copy")
    with files_up_to(6000):
        full = labeler(*command)
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    assert full.stderr.count("\n") == 1, full.stderr
    assert "File too large" in full.stderr
    assert labeler(*command).returncode == 0
    undisturbed = tmp_path / "undisturbed"
    assert labeler("label", scenes, "-o", undisturbed, *OPTIONS, "--link", "copy").returncode == 0
    assert contents(out) == contents(undisturbed)


DEMO = ("--model", "demo")  # other models are not where tests run, and that would be told first


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("label", "{tmp}/none", "-o", "{tmp}/out", "--classes", "dog", *DEMO), 2, "no such file or folder"),
        (("label", "{tmp}/empty", "-o", "{tmp}/out", "--classes", "dog", *DEMO), 3, "no image found"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out"), 2, "say what to look for"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out", "--classes", "dog,,cat"), 2, "labeler: "),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out", "--classes", "dog", "--floor", "2"), 2, "--floor must be"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out", "--classes", "dog", "--min-area", "-1"), 2, "--min-area"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out", "--classes", "dog", "--link", "soft"), 2, "--link must be"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out", "--classes", "dog", "--shard-size", "0"), 2, "--shard-size"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out", "--classes", "dog", "--formats", "lvis"), 2, "--formats must be"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/scenes", "--classes", "dog", *DEMO), 2, "same folder"),
        (("label", "{tmp}/scenes", "-o", "{tmp}", "--classes", "dog", *DEMO), 2, "lies in the output folder"),
        (("label", "{tmp}/scenes", "-o", "{tmp}/out", "--classes", "dog", "--min-score", "0.05"), 2, "--floor 0.05"),
        (("demo", "-o", "{tmp}"), 2, "is not empty and no earlier demo"),
        (("demo", "-o", "{tmp}/out", "--scenes", "0"), 2, "--scenes must be"),
        (("export", "{tmp}/empty"), 2, "holds no run"),
        (("label", "{tmp}/scenes", "-o", "/proc/none", "--classes", "dog", *DEMO), 2, "/proc/none"),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], code: int, said: str, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from workflows.commands.cli import main

    (tmp_path / "empty").mkdir()
    assert main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_failures_are_tried_again_on_request_or_once_the_file_is_another(
    scenes: Path, tmp_path: Path, labeler: Run
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("scenes/scene_000.png\nscenes/late.png\n")
    command = ("label", listed, "-o", tmp_path / "out", *OPTIONS)
    first = labeler(*command)
    assert first.returncode == 1, first.stderr
    assert "late.png" in first.stdout
    same = labeler(*command)
    assert same.returncode == 0
    assert "1 image failed in earlier runs" in same.stdout
    assert "labeled in this run" not in same.stdout
    retried = labeler(*command, "--retry-failed")
    assert retried.returncode == 1
    assert "1 images labeled in this run" in retried.stdout  # the other keeps its labels
    (scenes / "scene_001.png").rename(scenes / "late.png")
    again = labeler(*command)
    assert again.returncode == 0, again.stderr
    assert {path.name for path in (tmp_path / "out" / "images").rglob("*.png")} == {
        "scenes_scene_000.png",
        "scenes_late.png",
    }


def test_odd_class_names_reach_the_terminal_whole(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    done = labeler(
        "label", scenes, "-o", tmp_path / "out", "--model", "demo", "--classes", "circle=[/b] round, star=bolt [m8]"
    )
    assert done.returncode == 0, done.stderr
    assert "[/b] round" in done.stdout


def test_an_earlier_output_inside_the_input_is_not_labeled(scenes: Path, labeler: Run) -> None:
    assert labeler("label", scenes, "-o", scenes / "one", *OPTIONS).returncode == 0
    second = labeler("label", scenes, "-o", scenes / "two", *OPTIONS)
    assert "labeling 6 images" in second.stdout


def test_images_of_every_kind_in_one_run(tmp_path: Path, labeler: Run) -> None:
    folder = tmp_path / "scenes"
    write_scenes(folder / "deep" / "ünïcode dir", [0])
    source = Image.open(next(folder.rglob("*.png")))
    source.save(folder / "same.png")
    source.save(folder / "same.JPG", quality=95)
    source.convert("L").resize((200, 160)).save(folder / "grey scale.tiff")
    source.convert("RGBA").save(folder / "with space.webp")
    source.convert("P").save(folder / "palette.gif")
    os.symlink(folder / "deep", folder / "again")
    (folder / "empty.png").touch()
    out = tmp_path / "out"
    done = labeler("label", folder, "-o", out, *OPTIONS, "--val-share", "0.5", "--seed", "3")
    assert done.returncode == 1, done.stderr
    named = {path.relative_to(out / "labels").parts[1:]: path for path in (out / "labels").rglob("*.txt")}
    assert len(named) == 6  # one label file an image, also where two images share a stem
    files = [p for split in ("train", "val") for p in (out / "images" / split).rglob("*") if p.is_file()]
    assert {path.relative_to(out / "images").with_suffix("") for path in files} == {
        path.relative_to(out / "labels").with_suffix("") for path in named.values()
    }
    annotations = [json.loads(path.read_text()) for path in (out / "annotations").iterdir()]
    assert sum(len(content["images"]) for content in annotations) == 6
