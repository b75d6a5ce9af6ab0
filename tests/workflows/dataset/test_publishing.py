"""Publishing a dataset: nothing is lost or half-done, and what the user made stays."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from labeler.errors import ImageError, RunError
from labeler.files.images import content_digest
from labeler.files.storage import locate
from labeler.formats.rewritten import is_rewritten_by_trainers
from labeler.record_files import write_records
from labeler.records import ImageRecord
from tests.support import kill_points
from tests.support.full_disk import files_up_to
from tests.support.made_folder import write_labeled
from tests.support.object_store import Bucket, Proxy, files_below, web_server
from tests.support.run_folders import ONTOLOGY, STRICT, coco, instance, make_run, write_labels
from tests.support.run_settings import run_settings
from workflows.commands.cli import main
from workflows.dataset.export import export
from workflows.dataset.labeled import Labeled
from workflows.dataset.ledger import read_ledger
from workflows.dataset.links import link_file
from workflows.dataset.recovery import recover
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

DOG = (instance(0, 0.8, 0),)
ALL_TRAIN = ExportConfig(val_share=0)


def files(folder: Path) -> dict[str, bytes]:
    """Everything below ``folder`` but the run's own files."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if not name.startswith("run/")}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """What the file system says of every file: nothing that is left alone changes in it."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("lock", "owner.json"))
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in paths}


# ---------------------------------------------------------------- kills


@pytest.mark.slow
@pytest.mark.parametrize("work", ["export", "decisions"])
def test_a_kill_at_any_change_loses_nothing(work: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, kill_points.__file__, str(tmp_path), work], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["changes"] > 40
    assert found["kills"] > 1.5 * found["changes"]
    assert (found["lost"], found["differing"]) == ([], [])


def broken_off(run: RunFolder, root: Path) -> Path:
    """Stop an export to ``STRICT`` while it publishes ``b``; a copy of the folder with the whole of it is returned."""
    whole = root.parent / "whole"
    shutil.copytree(run.output, whole)
    export(RunFolder(whole), root, ONTOLOGY, STRICT)
    is_armed = True

    def stop(event: str, arguments: tuple[object, ...]) -> None:
        if is_armed and event == "os.rename" and "labels/train/b.txt" in str(arguments[1]):
            raise KeyboardInterrupt

    sys.addaudithook(stop)
    with pytest.raises(KeyboardInterrupt):
        export(run, root, ONTOLOGY, STRICT)
    is_armed = False
    return whole


def test_an_export_that_broke_off_is_brought_to_its_end_by_the_next_command(tmp_path: Path) -> None:
    """Whatever command that is, and also where it labels for hours or fails: the dataset does not stay half-way."""
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    whole = broken_off(run, root)
    assert files(run.output) != files(whole)
    (run.output / "labels" / "train" / "b.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2\n")  # a hand that was quicker
    recover(run.output)
    expected = files(whole) | {"labels/train/b.txt": b"0 0.1 0.1 0.2 0.1 0.2 0.2\n"}
    assert files(run.output) == expected
    assert export(run, root, ONTOLOGY, STRICT).edited == ["labels/train/b.txt"]
    # The card has a digest of the files, with edited ones as they are.
    card = {"README.md": (run.output / "README.md").read_bytes()}
    assert files(run.output) == expected | card


def test_what_killed_writes_left_is_cleaned_up(tmp_path: Path) -> None:
    run, _ = make_run(tmp_path, ["a.png"], DOG)
    left = [folder / f".{'0f' * 16}.partial" for folder in (run.path, run.records)]
    mine = [run.path / "notes.partial", run.output / f".{'0f' * 16}.partial"]
    for path in (*left, *mine):
        path.write_text("x")
    with run.locked():
        assert not any(path.exists() for path in left)
        left[1].write_text("x")  # of a worker that is killed in this run
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in mine)


# ---------------------------------------------------------------- only what changed


@pytest.mark.parametrize("link", ["hard", "symlink", "copy", "none"])
def test_with_nothing_new_nothing_is_written(link: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b/c.png"], DOG)
    config = ExportConfig(link=link, formats=("coco", "yolo", "cutouts"))
    export(run, root, ONTOLOGY, config)
    before = state(run.output)
    summary = export(run, root, ONTOLOGY, config)
    assert state(run.output) == before
    assert (summary.edited, summary.restored, summary.set_aside) == ([], [], [])


def test_a_touched_file_is_no_edit_and_is_read_once(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    os.utime(run.output / "labels" / "train" / "a.txt", (1, 1))
    assert export(run, root, ONTOLOGY, ALL_TRAIN).edited == []
    ledger = read_ledger(run.path / "ledger.parquet")
    assert ledger is not None
    row = ledger.row("labels/train/a.txt")
    assert row is not None
    assert ledger.at(row).stamp.endswith("-1000000000")


@pytest.mark.parametrize(("before", "after"), [("hard", "copy"), ("copy", "symlink"), ("symlink", "hard")])
def test_another_link_is_made_of_images_that_are_there(before: str, after: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ExportConfig(link=before, val_share=0))
    summary = export(run, root, ONTOLOGY, ExportConfig(link=after, val_share=0))
    image = run.output / "images" / "train" / "a.png"
    assert image.is_symlink() == (after == "symlink")
    assert image.samefile(root / "a.png") == (after != "copy")
    assert summary.edited == []


# ---------------------------------------------------------------- what the user made


def edit(run: RunFolder) -> dict[str, bytes]:
    """Edits and additions as users make them."""
    made = {
        "labels/train/a.txt": b"0 0.1 0.1 0.2 0.1 0.2 0.2\n",
        "labels/train/mine.txt": b"1 0.1 0.1 0.2 0.1 0.2 0.2\n",
        "images/train/mine.png": b"a picture",
        "images/test/holdout.png": b"another",
        "data.yaml": (run.output / "data.yaml").read_bytes() + b"test: images/test\n",
        "images/README.md": b"where these come from",
    }
    for name, data in made.items():
        path = run.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
    return made


@pytest.mark.parametrize("has_ledger", [True, False], ids=["", "written by the first version"])
@pytest.mark.parametrize(
    "config",
    [ALL_TRAIN, STRICT, ExportConfig(val_share=1), ExportConfig(val_share=0, formats=("coco",))],
    ids=["nothing new", "other labels", "another split", "another format"],
)
def test_edits_and_added_files_stay_and_are_named(config: ExportConfig, has_ledger: bool, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    made = edit(run)
    if not has_ledger:
        for path in (run.path / "ledger.parquet", run.output / "README.md"):
            path.unlink()
    for _ in range(2):
        summary = export(run, root, ONTOLOGY, config, previous=ALL_TRAIN, resplit=True)
        assert sorted(summary.edited) == ["data.yaml", "labels/train/a.txt"]
        now = files(run.output)
        assert {name: now[name] for name in made} == made
        assert "images/train/a.png" in now  # the image stays where its edited label is
        assert ("labels/train/b.txt" in now) == ("yolo" in config.formats and config.val_share == 0)
        assert {entry["file_name"] for entry in coco(run)["images"]} == {"a.png", "b.png"}
    summary = export(run, root, ONTOLOGY, config, overwrite_edits=True, resplit=True)
    assert summary.edited == []
    fresh, _ = make_run(tmp_path / "fresh", [], ())
    write_labels(fresh, root, ["a.png", "b.png"], DOG)
    export(fresh, root, ONTOLOGY, config)
    mine = ("labels/train/mine.txt", "images/train/mine.png", "images/test/holdout.png", "images/README.md")
    assert files(run.output) == files(fresh.output) | {name: made[name] for name in mine}


def test_a_deleted_file_is_written_again_and_named(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    before = files(run.output)
    (run.output / "labels" / "train" / "a.txt").unlink()
    assert export(run, root, ONTOLOGY, ALL_TRAIN).restored == ["labels/train/a.txt"]
    assert files(run.output) == before


def test_an_image_that_the_user_added_is_not_taken_for_another_of_its_name(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    (run.output / "images" / "train" / "b.png").write_bytes(b"mine")
    Image.new("RGB", (60, 40)).save(root / "b.png")
    write_labels(run, root, ["a.png", "b.png"], DOG)
    summary = export(run, root, ONTOLOGY, ALL_TRAIN)
    ((image_id, cause),) = summary.failures
    assert image_id == "b.png"
    assert str(run.output / "images" / "train" / "b.png") in cause
    assert [entry["file_name"] for entry in coco(run)["images"]] == ["a.png"]
    assert (run.output / "images" / "train" / "b.png").read_bytes() == b"mine"


def test_an_image_may_hold_the_last_copy(tmp_path: Path) -> None:
    """Whatever becomes of its record, it is not deleted unless that was asked for."""
    names = ["a.png", "b.png", "c.png"]
    run, root = make_run(tmp_path, names, DOG)
    for shade, name in enumerate(names):
        Image.new("RGB", (60, 40), (0, shade, 0)).save(root / name)
    write_labels(run, root, names, DOG)
    export(run, root, ONTOLOGY, ExportConfig(link="copy", val_share=0))
    image = (root / "a.png").read_bytes()
    (root / "a.png").unlink()
    export(run, root, ONTOLOGY, ExportConfig(link="none", val_share=0))
    assert (run.output / "images" / "train" / "a.png").read_bytes() == image
    assert not (run.output / "images" / "train" / "b.png").exists()
    write_labels(run, root, ["b.png", "c.png"], DOG)
    summary = export(run, root, ONTOLOGY, ALL_TRAIN)
    assert summary.set_aside == ["images/train/a.png"]
    assert (run.path / "set-aside" / "images" / "train" / "a.png").read_bytes() == image
    good = (root / "b.png").read_bytes()
    (root / "b.png").unlink()
    (root / "b.png").write_bytes(good[:50])  # cut short by whoever copied it there
    write_records(run.records / "000000.parquet", [ImageRecord("b.png", 0, 0, "", "error", "the file is cut short")])
    assert export(run, root, ONTOLOGY, ALL_TRAIN).set_aside == ["images/train/b.png"]
    assert (run.path / "set-aside" / "images" / "train" / "b.png").read_bytes() == good
    assert not (run.output / "images" / "train" / "c.png").exists()  # the input has it


def test_pruned_images_are_deleted(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    (root / "a.png").unlink()
    write_labels(run, root, ["b.png"], DOG)
    assert export(run, root, ONTOLOGY, ALL_TRAIN, prune=True).set_aside == []
    assert not list(tmp_path.rglob("a.png"))


def distinct(root: Path, names: list[str], first: int = 0) -> None:
    """Images of which no two are alike."""
    root.mkdir(parents=True, exist_ok=True)
    for shade, name in enumerate(names, start=first):
        (root / name).unlink(missing_ok=True)
        Image.new("RGB", (60, 40), (0, shade, 9)).save(root / name)


def test_an_image_of_another_input_does_not_replace_the_last_copy(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    distinct(root, ["a.png"])
    write_labels(run, root, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ExportConfig(link="copy", val_share=0))
    last = (root / "a.png").read_bytes()
    shutil.rmtree(root)
    distinct(tmp_path / "other", ["a.png"], first=50)
    write_labels(run, tmp_path / "other", ["a.png"], DOG)
    assert export(run, tmp_path / "other", ONTOLOGY, ALL_TRAIN).set_aside == ["images/train/a.png"]
    assert (run.path / "set-aside" / "images" / "train" / "a.png").read_bytes() == last
    now = (tmp_path / "other" / "a.png").read_bytes()
    assert (run.output / "images" / "train" / "a.png").read_bytes() == now


def test_pruning_spares_an_image_that_the_input_still_has_in_ruins(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    distinct(root, ["a.png", "b.png"])
    write_labels(run, root, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ExportConfig(link="copy", val_share=0))
    good = (root / "a.png").read_bytes()
    (root / "a.png").write_bytes(good[:40])
    write_labels(run, root, ["b.png"], DOG)
    assert export(run, root, ONTOLOGY, ALL_TRAIN, prune=True).set_aside == ["images/train/a.png"]
    assert (run.path / "set-aside" / "images" / "train" / "a.png").read_bytes() == good


def test_an_edited_twin_is_no_copy(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)  # of one content
    export(run, root, ONTOLOGY, ExportConfig(link="copy", val_share=0))
    image = (root / "b.png").read_bytes()
    (run.output / "images" / "train" / "a.png").write_bytes(b"edited")
    shutil.rmtree(root)
    Image.new("RGB", (60, 40), "blue").save(tmp_path / "c.png")
    write_labels(run, tmp_path, ["c.png"], DOG)
    summary = export(run, tmp_path, ONTOLOGY, ALL_TRAIN)
    assert (summary.edited, summary.set_aside) == (["images/train/a.png"], ["images/train/b.png"])
    assert (run.path / "set-aside" / "images" / "train" / "b.png").read_bytes() == image


def test_two_images_of_one_name_are_both_kept(bucket: Bucket, tmp_path: Path) -> None:
    for output in (tmp_path / "out", locate(f"{bucket.uri}/out")):
        long = "n" * 251 + ".png"
        for shade in (1, 2):
            root = tmp_path / f"in{shade}"
            distinct(root, [long], first=shade)
            run = RunFolder(output)
            run.settings.write(run_settings(root))
            write_labels(run, root, [long], DOG)
            export(run, root, ONTOLOGY, ExportConfig(link="copy", val_share=0))
            write_records(run.records / "000000.parquet", [ImageRecord(long, 0, 0, "", "error", "cut short")])
            shutil.copytree(root, tmp_path / f"kept{shade}", dirs_exist_ok=True)
            (root / long).unlink()
            write_records(run.records / "000000.parquet", [])
            distinct(root, ["x.png"])
            write_labels(run, root, ["x.png"], DOG)
            export(run, root, ONTOLOGY, ExportConfig(link="copy", val_share=0))
        assert len([name for name in files_below(output / "run" / "set-aside") if "nnn" in name]) == 2


def test_an_image_that_the_user_moved_to_another_split_stays_there(tmp_path: Path) -> None:
    for has_input in (True, False):
        folder = tmp_path / str(has_input)
        folder.mkdir()
        run, root = make_run(folder, ["a.png", "b.png"], DOG)
        export(run, root, ONTOLOGY, ALL_TRAIN)
        for kind, name in (("images", "a.png"), ("labels", "a.txt")):
            (run.output / kind / "val").mkdir()
            os.rename(run.output / kind / "train" / name, run.output / kind / "val" / name)
        if not has_input:
            shutil.rmtree(root)
        for _ in range(2):
            summary = export(run, root, ONTOLOGY, ALL_TRAIN)
            assert (summary.edited, summary.restored, summary.missing) == ([], [], [])
            assert sorted(name for name in files(run.output) if name.startswith(("images", "labels"))) == [
                "images/train/b.png", "images/val/a.png", "labels/train/b.txt", "labels/val/a.txt",
            ]  # fmt: skip
            content = json.loads((run.output / "annotations" / "instances_val.json").read_text())
            assert [image["file_name"] for image in content["images"]] == ["a.png"]


def test_a_label_that_the_user_linked_elsewhere_counts_as_edited(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    label = run.output / "labels" / "train" / "a.txt"
    os.rename(label, tmp_path / "fixed.txt")
    label.symlink_to(tmp_path / "fixed.txt")
    export(run, root, ONTOLOGY, ALL_TRAIN)
    (tmp_path / "fixed.txt").write_text("0 0.1 0.1 0.2 0.1 0.2 0.2\n")
    assert export(run, root, ONTOLOGY, STRICT).edited == ["labels/train/a.txt"]
    assert label.is_symlink()


def test_a_link_that_leads_nowhere_is_no_image(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ExportConfig(link="symlink", val_share=0))
    (root / "a.png").unlink()
    assert export(run, root, ONTOLOGY, ExportConfig(link="symlink", val_share=0)).missing == ["a.png"]
    assert [entry["file_name"] for entry in coco(run)["images"]] == ["b.png"]
    os.rename(root, tmp_path / "moved")
    assert export(run, tmp_path / "moved", ONTOLOGY, ALL_TRAIN).missing == ["a.png"]


@pytest.mark.parametrize("before", ["hard", "symlink", "copy"])
@pytest.mark.parametrize("after", ["hard", "symlink", "copy"])
def test_another_link_and_another_split_at_once(before: str, after: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ExportConfig(link=before, val_share=0))
    export(run, root, ONTOLOGY, ExportConfig(link=after, val_share=1), resplit=True)
    (image,) = (run.output / "images").rglob("*.png")
    assert image.parent.name == "val"
    assert image.is_symlink() == (after == "symlink")
    assert after != "copy" or not image.samefile(root / "a.png")


def test_what_is_in_the_way_of_every_image_leaves_the_dataset_as_it_was(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    shutil.rmtree(run.output / "labels")
    (run.output / "labels").write_text("no folder")
    before = files(run.output)
    with pytest.raises(RunError, match="labels is a file where a folder belongs"):
        export(run, root, ONTOLOGY, STRICT)
    assert files(run.output) == before


def test_a_copy_of_a_folder_whose_export_broke_off_is_completed(tmp_path: Path) -> None:
    """The copy's files have other times than the journal says."""
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    whole = broken_off(run, root)
    shutil.copytree(run.output, tmp_path / "copy", copy_function=shutil.copyfile)
    summary = export(RunFolder(tmp_path / "copy"), root, ONTOLOGY, STRICT)
    assert summary.edited == []
    assert files(tmp_path / "copy") == files(whole)


@pytest.mark.parametrize("name", ["building", "records", "attempts", "sent", "unusable", "set-aside"])
def test_a_link_in_place_of_a_folder_of_the_run_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_labeled(tmp_path, ["a.png", "b.png"], ["dog", "cat"])
    victim = tmp_path / "victim"
    shutil.copytree(out / "run" / "records", victim)
    for path in ("labels/train/a.txt", "images/train/a.png", "data.yaml", "000001.json", "notes.txt"):
        (victim / path).parent.mkdir(parents=True, exist_ok=True)
        (victim / path).write_text("mine")
    before = everything(victim)
    shutil.rmtree(out / "run" / name, ignore_errors=True)
    (out / "run" / name).symlink_to(victim)
    images = str(tmp_path / "images")
    label = ("label", images, "-o", str(out), "--classes", "dog, cat", "--model", "demo")
    for command in (("export", str(out)), label, (*label, "--restart"), (*label, "--retry-failed")):
        assert main([*command]) == 2
        assert f"{out / 'run' / name} is a link; put a folder in its place" in capsys.readouterr().err
    assert everything(victim) == before


# ---------------------------------------------------------------- names and places


LONG = "n" * 251


def test_one_name_stops_nothing(tmp_path: Path) -> None:
    names = ["foo.png", "foo.txt/x.png", f"{LONG}.png", f"{LONG}.jpg", "bar.png/y.png", "é" * 125 + ".png"]
    run, root = make_run(tmp_path, names, DOG)
    write_labels(run, root, names, DOG)
    summary = export(run, root, ONTOLOGY, ALL_TRAIN)
    assert (summary.failures, summary.images) == ([], {"train": len(names)})
    images = sorted((run.output / "images" / "train").rglob("*.*"))
    labels = [path for path in (run.output / "labels" / "train").rglob("*.txt") if path.is_file()]
    images = [path for path in images if path.is_file()]
    assert len(images) == len(labels) == len(names)
    for path in images:
        assert (run.output / "labels" / path.relative_to(run.output / "images")).with_suffix(".txt").is_file()
    assert {entry["file_name"] for entry in coco(run)["images"]} == {
        path.relative_to(run.output / "images" / "train").as_posix() for path in images
    }


def test_a_place_that_is_taken_is_one_listed_failure(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png", "sub/c.png", "out/d.png"], DOG)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run.output / "labels" / "train" / "a.txt").mkdir(parents=True)
    (run.output / "images" / "train").mkdir(parents=True)
    (run.output / "images" / "train" / "sub").write_text("no folder")
    (run.output / "images" / "train" / "out").symlink_to(elsewhere)
    summary = export(run, root, ONTOLOGY, replace(ALL_TRAIN, layout="nested"))
    causes = {"a.png": "is a folder", "sub/c.png": "is a file", "out/d.png": "leads out of"}
    assert len(summary.failures) == len(causes)
    assert all(causes[image_id] in cause for image_id, cause in summary.failures)
    assert [entry["file_name"] for entry in coco(run)["images"]] == ["b.png"]
    assert not list(elsewhere.iterdir())
    assert not (run.output / "images" / "train" / "a.png").exists()


@pytest.mark.parametrize(
    ("layout", "bmp", "webp"),
    # flat: with the first digits of the SHA-256 of the image id
    [
        ("nested", "b_2", "b_3"),
        ("flat", *(f"b_{sha256(name.encode()).hexdigest()[:8]}" for name in ("b.bmp", "b.webp"))),
    ],
)
def test_a_name_once_given_stays(layout: str, bmp: str, webp: str, tmp_path: Path) -> None:
    """Also when an image with a better claim to it comes later, or is labeled again and so comes behind."""
    config = replace(ALL_TRAIN, layout=layout)
    run, root = make_run(tmp_path, ["b.png", "b.bmp"], DOG)
    export(run, root, ONTOLOGY, config)
    Image.new("RGB", (60, 40), "blue").save(root / "b.webp")
    write_labels(run, root, ["b.webp", "b.bmp", "b.png"], DOG)
    export(run, root, ONTOLOGY, config)
    images = run.output / "images" / "train"
    assert {p.name: p.read_bytes() for p in images.iterdir()} == {
        "b.png": (root / "b.png").read_bytes(),
        f"{bmp}.bmp": (root / "b.bmp").read_bytes(),
        f"{webp}.webp": (root / "b.webp").read_bytes(),
    }


def test_images_are_found_in_the_dataset_by_the_names_they_have_there(tmp_path: Path) -> None:
    names = ["a.bmp", "a.png", "images/b.png"]
    run, root = make_run(tmp_path, names, DOG)
    digests = {name: content_digest((root / name).read_bytes()) for name in names}
    export(run, root, ONTOLOGY, ExportConfig(val_share=0.5))
    shutil.rmtree(root)
    labeled = Labeled(run, root, ONTOLOGY, ALL_TRAIN, run_settings(root))
    for name in names:
        assert labeled.image(name, digests[name]).digest == digests[name]
    with pytest.raises(ImageError, match="the image is gone"):
        labeled.image("c.png", digests["a.png"])


# ---------------------------------------------------------------- the input's own files


def photo(path: Path, tail: bytes) -> bytes:
    Image.new("RGB", (60, 40), "red").save(path, "JPEG")
    path.write_bytes(path.read_bytes() + tail)
    return path.read_bytes()


@pytest.mark.parametrize("link", ["hard", "symlink"])
@pytest.mark.parametrize("tail", [b"TRAILER", b"\0", b""], ids=["trailer", "zero", "sound"])
def test_a_photo_that_trainers_rewrite_is_copied(link: str, tail: bytes, tmp_path: Path) -> None:
    source, target = tmp_path / "photo.png", tmp_path / "linked.jpg"  # whatever its name says
    data = photo(source, tail)
    assert is_rewritten_by_trainers(source) == bool(tail)
    link_file(source, target, link)
    assert target.samefile(source) != bool(tail)
    target.write_bytes(b"rewritten in place") if tail else None
    assert source.read_bytes() == data


def test_a_linked_photo_of_an_older_dataset_is_copied_at_the_next_export(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.jpg"], DOG)
    photo(root / "a.jpg", b"TRAILER")
    write_labels(run, root, ["a.jpg"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    image = run.output / "images" / "train" / "a.jpg"
    image.unlink()
    os.link(root / "a.jpg", image)
    (run.path / "ledger.parquet").unlink()
    assert export(run, root, ONTOLOGY, ALL_TRAIN).edited == []
    assert not image.samefile(root / "a.jpg")
    assert image.read_bytes() == (root / "a.jpg").read_bytes()


def test_an_image_that_is_edited_through_its_link_is_no_edit_of_the_dataset(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    data = (root / "a.png").read_bytes() + b"more"
    with open(root / "a.png", "r+b") as file:
        file.write(data)
    assert export(run, root, ONTOLOGY, ALL_TRAIN).edited == []
    write_labels(run, root, ["a.png"], DOG)
    assert export(run, root, ONTOLOGY, ALL_TRAIN).edited == []
    assert (run.output / "images" / "train" / "a.png").read_bytes() == data


# ---------------------------------------------------------------- a full disk


def test_a_full_disk_is_said_with_the_path_and_costs_nothing(tmp_path: Path) -> None:
    """A limit on the size of files fails writes half-way, as a full disk does."""
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    export(run, root, ONTOLOGY, ALL_TRAIN)
    before = files(run.output)
    refused: list[OSError] = []
    for limit in (10, 100, 300, 700, 2000):
        try:
            with files_up_to(limit):
                export(RunFolder(run.output), root, ONTOLOGY, STRICT)
            break
        except OSError as error:
            refused.append(error)
        assert files(run.output) == before
    assert len(refused) > 1
    assert all(error.errno == errno.EFBIG and str(run.output) in error.filename for error in refused)
    export(run, root, ONTOLOGY, STRICT)
    assert files(run.output) != before


# ---------------------------------------------------------------- a stranger's folder


@pytest.mark.parametrize(
    "name", ["../x.txt", "/etc/x", "labels/../../x", "images//a", "run/run.json", "labels/./a.txt"]
)
def test_a_ledger_or_journal_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    (tmp_path / "x.txt").write_text("mine")
    for do in ("delete", "put", "move", "set aside"):
        row = {"do": do, "name": name, "source": "labels/train/a.txt" if do == "move" else "", "expected": ""}
        (run.path / "journal.json").write_text(json.dumps({"version": 1, "operations": [row]}))
        with pytest.raises(RunError, match=r"journal\.json names .* not a file inside the dataset"):
            export(run, root, ONTOLOGY, ALL_TRAIN)
    assert (tmp_path / "x.txt").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "operations": [5]}', "[" * 9999])
def test_a_damaged_journal_is_said_in_a_line(content: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], DOG)
    (run.path / "journal.json").write_text(content)
    with pytest.raises(RunError, match=r"journal\.json (is damaged|was written by another version)"):
        export(run, root, ONTOLOGY, ALL_TRAIN)


def test_an_input_that_only_a_run_folder_names_is_not_trusted(tmp_path: Path) -> None:
    """Another image is not linked in from there, and a store is not asked at all."""
    run, root = make_run(tmp_path, ["a.png", "b.png"], DOG)
    secret = tmp_path / "secret"
    secret.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40), "green").save(secret / name)
    (secret / "a.png").write_bytes((root / "a.png").read_bytes())
    summary = export(run, secret, ONTOLOGY, ALL_TRAIN, root_is_named=False)
    assert [image_id for image_id, _ in summary.failures] == ["b.png"]
    assert [path.name for path in run.output.rglob("*.png")] == ["a.png"]


@pytest.mark.parametrize("command", ["export", "report"])
def test_a_url_that_only_a_run_folder_names_is_not_contacted(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = write_labeled(tmp_path, ["a.png", "b.png", "c.png"], ["dog", "cat"])
    asked: list[str] = []
    with web_server(tmp_path / "images", asked) as web:
        settings = json.loads((out / "run" / "run.json").read_text())
        (out / "run" / "run.json").write_text(json.dumps({**settings, "input": web}))
        code = main([command, str(out)])
        assert asked == []
        if command == "export":
            assert code == 2
            assert f"add --images {web}" in capsys.readouterr().err
            assert main([command, str(out), "--images", "http://127.0.0.1:9/other"]) == 2
            assert "the images were labeled from" in capsys.readouterr().err
        assert main([command, str(out), "--images", web]) == (1 if command == "export" else 0)
        assert asked != []
    label = ("label", str(tmp_path / "images"), "-o", str(out), "--classes", "dog, cat", "--model", "demo")
    asked.clear()
    with web_server(tmp_path, asked) as web:
        (out / "run" / "run.json").write_text(json.dumps({**settings, "input": web}))
        assert main([*label]) == 2
        assert asked == []
        (out / "run" / "run.json").write_text(json.dumps({**settings, "input": web}))
    if command == "export":  # with all images in the dataset, none is needed from there
        assert main([command, str(out), "--accept-score", "0.5"]) == 0


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_store_that_breaks_off_anywhere_loses_nothing(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change is refused from some one on, then a second run: the same dataset as an undisturbed one's."""
    monkeypatch.setattr("labeler.files.retries.WAITS", ())
    kill_points.make(tmp_path, ("a.jpg", "a.png", "b/c.png"))
    images = {path.read_bytes() for path in (tmp_path / "out" / "images").rglob("*.*") if path.is_file()}
    for name, data in everything(tmp_path / "out").items():
        if name != "run/ledger.parquet":
            bucket.put(f"start/{name}", data)
    start = RunFolder(locate(f"{bucket.uri}/start"))
    export(start, tmp_path / "input", ONTOLOGY, kill_points.BEFORE)
    contents = bucket.contents("start/")  # its ledger goes by checksums, and so holds for a copy

    def upload(name: str) -> RunFolder:
        for path, data in contents.items():
            bucket.put(f"{name}/{path}", data)
        proxy.log.clear()
        return RunFolder(locate(f"{bucket.uri}/{name}"))

    def publish(run: RunFolder) -> list[str]:
        return export(run, tmp_path / "input", ONTOLOGY, kill_points.AFTER).edited

    def changes() -> int:
        return sum(method in ("PUT", "DELETE", "POST") for method, _ in proxy.log)

    def left(name: str) -> dict[str, bytes]:
        return {path: data for path, data in bucket.contents(f"{name}/").items() if path != "run/ledger.parquet"}

    assert publish(upload("whole")) == []
    total = changes()
    wanted = left("whole")
    assert total > 10
    for broken in range(total):
        name = f"cut-{broken}"
        run = upload(name)
        proxy.fail = lambda method, path, before: (
            "denied" if method in ("PUT", "DELETE", "POST") and changes() > broken else ""  # noqa: B023
        )
        with pytest.raises(OSError, match="cut-"):
            publish(run)
        proxy.fail = lambda method, path, before: ""
        assert images <= {*bucket.contents(f"{name}/").values(), *everything(tmp_path / "input").values()}
        assert publish(run) == []
        assert left(name) == wanted
