"""Versions of a dataset: they never change, share what they can, and are whole however an export ends."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from labeler.errors import RunError, UsageError
from labeler.files.listing import stamps
from labeler.files.storage import locate
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from tests.support import version_kills
from tests.support.command_line import run_in_process
from tests.support.made_folder import write_labeled
from tests.support.run_folders import ONTOLOGY, instance, make_run, records_of
from workflows.dataset.export import export
from workflows.dataset.recovery import recover
from workflows.dataset.versions import check_versions
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

FOUND = (instance(0, 0.95, 0), instance(1, 0.8, 21), instance(0, 0.5, 42))
NAMES = ["a.jpg", "b/c.png", "d.png", "e.gif"]
LOOSE = ExportConfig(val_share=0.3, version_datasets=True)
STRICT = replace(LOOSE, quality=QualityConfig(accept_score=0.9))
EVERY_FORMAT = replace(LOOSE, formats=("coco", "yolo", "roboflow", "voc", "semantic", "hf", "cutouts", "webdataset"))


@pytest.fixture
def labeled(tmp_path: Path) -> tuple[RunFolder, Path]:
    return make_run(tmp_path, NAMES, FOUND)


def published(run: RunFolder, root: Path, config: ExportConfig) -> Path:
    """Export, and return the folder of the version."""
    version = export(run, root, ONTOLOGY, config).version
    assert version is not None
    assert (run.output / "versions" / "latest").resolve() == version.path.resolve()
    return version.path


def files(folder: Path) -> dict[str, bytes]:
    """The files of a dataset or a version."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(("run/", "versions/"))}


def versions(output: Path) -> dict[str, dict[str, bytes]]:
    """The content of every version that a reader may take for one."""
    folders = (path for path in (output / "versions").iterdir() if not path.name.startswith((".", "latest")))
    return {path.name: files(path) for path in folders}


@pytest.mark.parametrize("link", ["hard", "symlink", "copy", "none"])
def test_a_version_is_the_dataset_as_it_was(link: str, labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    config = replace(LOOSE if link == "none" else EVERY_FORMAT, link=link)
    first = published(run, root, config)
    was = files(run.output)
    assert files(first) == was
    assert ("data.yaml" in was) == (link != "none")
    assert "README.md" in was
    second = published(run, root, replace(config, quality=STRICT.quality))
    assert files(second) == files(run.output) != was
    assert files(first) == was
    assert published(run, root, config) == first  # the same content again
    assert len(versions(run.output)) == 2
    for name in was:
        mine, theirs = first / name, run.output / name
        is_image = name.startswith(("images/", "roboflow/", "voc/JPEGImages/", "hf/")) and not name.endswith(
            (".json", ".parquet")
        )
        assert mine.is_symlink() == (is_image and theirs.is_symlink())
        assert mine.samefile(theirs) == (is_image and link != "copy")
        assert bool(mine.stat().st_mode & 0o222) == is_image
        if was[name] == files(second).get(name):
            assert mine.samefile(second / name)


def test_with_nothing_new_nothing_is_written(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled

    def state() -> dict[Path, tuple[int, int]]:
        paths = (path for path in (run.output / "versions").rglob("*"))
        return {path: (path.lstat().st_mtime_ns, path.lstat().st_ino) for path in paths}

    published(run, root, LOOSE)
    before = state()
    summary = export(run, root, ONTOLOGY, LOOSE)
    assert summary.version is not None
    assert not summary.version.is_new
    assert state() == before
    assert export(run, root, ONTOLOGY, replace(LOOSE, version_datasets=False)).version is None


def test_a_version_can_be_moved_and_names_nothing_outside_it(labeled: tuple[RunFolder, Path], tmp_path: Path) -> None:
    run, root = labeled
    published(run, root, LOOSE)
    shutil.copytree(run.output, tmp_path / "elsewhere", symlinks=True)
    shutil.rmtree(run.output)
    version = tmp_path / "elsewhere" / "versions" / "latest"
    data = yaml.safe_load((version / "data.yaml").read_text())
    assert "path" not in data
    images = [path for split in ("train", "val") for path in (version / data[split]).iterdir()]
    assert len(images) == len(NAMES)


def test_files_edited_in_place_do_not_reach_versions(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    first = published(run, root, LOOSE)
    was = files(first)
    label = next((run.output / "labels").rglob("a.txt"))
    edited = ["README.md", "data.yaml", label.relative_to(run.output).as_posix()]
    for name in edited:
        with open(run.output / name, "a") as file:
            file.write("\n")
    (run.output / "images" / "train" / "mine.txt").write_text("added")
    summary = export(run, root, ONTOLOGY, LOOSE)
    assert sorted(summary.edited) == edited
    second = published(run, root, LOOSE)
    assert second != first
    assert files(first) == was
    assert files(second) == {name: data + b"\n" * (name in edited) for name, data in was.items()}


def test_images_stay_unread_by_the_next_run(tmp_path: Path) -> None:
    """The links of a version change the ctimes of the input, which must not count as changes."""
    out = write_labeled(tmp_path, [f"{number}.png" for number in range(4)], ["dog", "cat"], side=64)
    done = run_in_process("export", out, "--version-datasets", "--images", tmp_path / "images")
    assert done.returncode == 1  # one image could not be labeled
    (name,) = versions(out)
    assert f"new version: {out / 'versions' / name}" in done.stdout.replace("\n", "")
    assert json.loads((out / "run" / "summary.json").read_text())["dataset_version"] == name
    saved = RunFolder(out).stamps()
    ids = saved.column("image_id").to_pylist()
    assert saved.column("stamp").to_pylist() == stamps(tmp_path / "images", ids)
    assert os.stat(tmp_path / "images" / "0.png").st_nlink == 3
    again = run_in_process("export", out)  # the folder remembers it
    assert "no new version, since the content is that of" in again.stdout
    assert run_in_process("export", out, "--no-version-datasets", "--seed", "3", "--resplit").returncode == 0
    assert list(versions(out)) == [name]


def test_the_links_of_versions_are_no_copies_of_an_image(labeled: tuple[RunFolder, Path]) -> None:
    """An image that is gone from the input and the records is set aside, since versions may be deleted any time."""
    run, root = labeled
    config = replace(LOOSE, formats=("coco", "roboflow"))
    for number in (0.9, 0.7):
        published(run, root, replace(config, quality=QualityConfig(accept_score=number)))
    content, kept = (root / "d.png").read_bytes(), (root / "a.jpg").read_bytes()
    os.link(root / "a.jpg", root.parent / "backup.jpg")
    for name in ("a.jpg", "d.png"):
        (root / name).unlink()
    write_records(run.records / "000000.parquet", records_of(root, ["b/c.png", "e.gif"], FOUND))
    summary = export(run, root, ONTOLOGY, config)
    assert [Path(name).name for name in summary.set_aside] == ["d.png"]
    (aside,) = (run.path / "set-aside").rglob("*.png")
    shutil.rmtree(run.output / "versions")
    assert aside.read_bytes() == content
    assert (root.parent / "backup.jpg").read_bytes() == kept


# ---------------------------------------------------------------- kills, readers and refusals


def test_a_kill_at_any_change_leaves_whole_versions(tmp_path: Path) -> None:
    """``latest`` is the old or the new one, and the next export publishes what an undisturbed one does."""
    done = subprocess.run(
        [sys.executable, version_kills.__file__, str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["versions"] == 2
    assert found["kills"] > 30
    assert len(set(found["latest"])) == 2
    assert found["latest"][0] != found["latest"][-1]
    assert (found["half"], found["differing"]) == ([], [])


def in_turn(run: RunFolder, root: Path, times: int) -> None:
    for number in range(times):
        published(run, root, replace(LOOSE, quality=QualityConfig(accept_score=0.4 + 0.02 * number), seed=number))


def test_a_reader_sees_one_version_while_others_are_published(labeled: tuple[RunFolder, Path]) -> None:
    """COCO, by pycocotools, and YOLO labels always tell of the same objects."""
    run, root = labeled
    published(run, root, STRICT)

    def read() -> Iterator[tuple[int, int]]:
        folder = (run.output / "versions" / "latest").resolve()
        for split in ("train", "val"):
            coco = COCO(str(folder / "annotations" / f"instances_{split}.json"))
            for image in coco.loadImgs(coco.getImgIds()):
                path = folder / "images" / split / image["file_name"]
                with Image.open(path) as pixels:
                    assert pixels.size == (image["width"], image["height"])
                labels = folder / "labels" / split / f"{Path(image['file_name']).stem}.txt"
                yield len(coco.getAnnIds([image["id"]])), len(labels.read_text().splitlines())

    counts = set[tuple[int, int]]()
    with ThreadPoolExecutor(1) as other:
        publishing = other.submit(in_turn, run, root, 8)
        while not publishing.done() or not counts:
            counts.update(read())
        publishing.result()
    assert counts
    assert all(ours == theirs for ours, theirs in counts)


def test_what_a_kill_left_is_removed_and_nothing_else(labeled: tuple[RunFolder, Path], tmp_path: Path) -> None:
    run, root = labeled
    first = published(run, root, LOOSE)
    mine = run.output / "versions" / "notes"
    mine.mkdir()
    left = run.output / "versions" / ".version.partial" / "labels"
    left.mkdir(parents=True)
    (left / "a.txt").write_text("half")
    recover(run.output)
    assert sorted(path.name for path in (run.output / "versions").iterdir()) == sorted([first.name, "latest", "notes"])
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".version.partial").mkdir(parents=True)
    shutil.rmtree(run.output / "versions")
    (run.output / "versions").symlink_to(elsewhere)
    recover(run.output)
    assert (elsewhere / ".version.partial").exists()


def test_what_is_in_the_way_is_refused_before_anything_is_written(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    place = run.output / "versions"
    place.write_text("mine")
    with pytest.raises(RunError, match="versions is not a folder; put a folder in its place"):
        export(run, root, ONTOLOGY, LOOSE)
    place.unlink()
    place.symlink_to(root)
    with pytest.raises(RunError, match="versions is a link; put a folder in its place"):
        export(run, root, ONTOLOGY, LOOSE)
    assert sorted(path.name for path in root.iterdir()) == ["a.jpg", "b", "d.png", "e.gif"]
    place.unlink()
    (place / "latest").mkdir(parents=True)
    with pytest.raises(RunError, match="latest is no link to a version; move it away"):
        export(run, root, ONTOLOGY, LOOSE)
    assert not files(run.output)


def test_another_folder_in_the_place_of_a_version_stays(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    version = published(run, root, LOOSE)
    shutil.rmtree(version)
    version.mkdir()
    (version / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="is no version that an export made; move it away"):
        export(run, root, ONTOLOGY, LOOSE)
    assert files(version) == {"notes.txt": b"mine"}


def test_a_store_is_refused_before_anything_is_labeled(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="is in a store"):
        check_versions(locate("memory://out"))
    flags = ("--classes", "dog", "--model", "demo", "--version-datasets")
    done = run_in_process("label", tmp_path, "-o", "memory://versions/out", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--version-datasets: memory://versions/out is in a store, where every version would be a full copy" in line
