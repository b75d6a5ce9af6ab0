"""Change detection with real files: what is read on the second night, and what is labeled again."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.stand_in import GOOD, Silent, StandIn, stand_in_job, write_images
from workflows.commands.cli import main
from workflows.label import label
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

IMAGES = 5
_watched: list[tuple[Path, list[str]]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], (str, os.PathLike)):
        folder, opened = _watched[-1]
        path = Path(arguments[0])
        if path.is_relative_to(folder):
            opened.append(path.name)


sys.addaudithook(_hook)


@contextmanager
def opened(folder: Path) -> Iterator[list[str]]:
    """The names of the files below ``folder`` that this process opens in the block."""
    _watched.append((folder, []))
    try:
        yield _watched[-1][1]
    finally:
        _watched.pop()


class _Until(Silent):
    def __init__(self, reads: list[str]) -> None:
        super().__init__()
        self._reads, self.read = reads, set[str]()

    def stage(self, doing: str, images: int = 0) -> None:
        if doing == "writing the dataset":
            self.read = set(self._reads)


class Nights:
    """One input and its output, labeled night after night."""

    def __init__(self, folder: Path) -> None:
        self.images, self.out = folder / "images", folder / "out"
        self.names = write_images(self.images, [GOOD] * IMAGES)

    def run(self, link: str = "hard", **more: Any) -> tuple[int, set[str]]:
        """How many images were labeled, and the input files opened until the dataset is written, which may copy."""
        job = stand_in_job(self.images, self.out, StandIn())
        with opened(self.images) as reads:
            progress = _Until(reads)
            summary = label(replace(job, export=ExportConfig(link=link), **more), progress)
        return summary.labeled.images, progress.read


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    return Nights(tmp_path)


def edited(path: Path) -> None:
    """Another last byte, of a checksum; the size stays."""
    with open(path, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def mtime_kept(path: Path, change: Callable[[Path], object]) -> None:
    status = path.stat()
    change(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def touched(path: Path) -> None:
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def replaced(path: Path) -> None:
    """By a rename, as rsync does it, with the old times."""
    new = path.with_suffix(".new")
    shutil.copy2(path, new)
    mtime_kept(new, edited)
    new.replace(path)


def linked_elsewhere(path: Path) -> None:
    os.link(path, path.parent.parent / "elsewhere.png")


@pytest.mark.parametrize("link", ["hard", "symlink", "copy", "none"])
def test_a_quiet_night_reads_nothing(nights: Nights, link: str) -> None:
    labeled, reads = nights.run(link)
    assert (labeled, reads) == (IMAGES, set(nights.names))
    if link == "hard":
        assert all((nights.images / name).stat().st_nlink == 2 for name in nights.names)
    for _ in range(2):
        assert nights.run(link) == (0, set())
    write_images(nights.images, [GOOD] * (IMAGES + 2))[-1]
    assert nights.run(link)[0] >= 2
    assert nights.run(link) == (0, set())


@pytest.mark.parametrize("arguments", [("--val-share", "0.9"), ("--link", "copy"), ("--format", "coco")])
def test_a_night_after_an_export_reads_nothing(
    nights: Nights, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    nights.run()
    before = {name: (nights.images / name).stat().st_ctime_ns for name in nights.names}
    assert main(["export", str(nights.out), *arguments]) == 0
    assert nights.run() == (0, set())
    after = {name: (nights.images / name).stat().st_ctime_ns for name in nights.names}
    assert arguments[0] != "--link" or before != after  # the links went, and came back


@pytest.mark.parametrize(
    ("change", "is_new"),
    [
        (touched, False),
        (lambda path: path.chmod(0o600), False),
        (linked_elsewhere, False),
        (lambda path: mtime_kept(path, lambda path: path.write_bytes(path.read_bytes())), False),
        (edited, True),
        (lambda path: mtime_kept(path, edited), True),
        (replaced, True),
        (lambda path: mtime_kept(path, lambda path: path.write_bytes(path.read_bytes() + b"\0")), True),
    ],
    ids=["touch", "chmod", "hard link", "rewritten", "edited", "edited, mtime kept", "replaced", "longer"],
)
def test_what_differs_is_read_once_and_its_content_decides(
    nights: Nights, change: Callable[[Path], object], is_new: bool
) -> None:
    nights.run("copy")  # the images in the dataset are others, so that editing one of the input leaves it alone
    name = nights.names[1]
    change(nights.images / name)
    labeled, reads = nights.run("copy")
    assert (labeled, reads) == (int(is_new), {name})
    assert nights.run("copy") == (0, set())


def test_an_edit_between_labeling_and_publishing_is_found(nights: Nights, monkeypatch: pytest.MonkeyPatch) -> None:
    name = nights.names[0]

    class Edits(Silent):
        def stage(self, doing: str, images: int = 0) -> None:
            if doing == "writing the dataset":
                mtime_kept(nights.images / name, edited)

    label(stand_in_job(nights.images, nights.out, StandIn()), Edits())
    assert nights.run() == (1, {name})
    assert nights.run() == (0, set())


def test_every_image_is_read_on_request(nights: Nights) -> None:
    nights.run()
    assert nights.run(verify_content=True) == (0, set(nights.names))


def test_stamps_of_earlier_versions_are_taken_over_unread(nights: Nights) -> None:
    nights.run("copy")
    path = nights.out / "run" / "images.parquet"
    manifest = pq.read_table(path)
    old = [stamp.rpartition("-")[0] for stamp in manifest.column("stamp").to_pylist()]
    column = manifest.schema.get_field_index("stamp")
    pq.write_table(manifest.set_column(column, manifest.schema.field(column), pa.array(old)), path)
    touched(nights.images / nights.names[2])
    assert nights.run("copy") == (0, {nights.names[2]})
    for image_id, stamp in zip(*RunFolder(nights.out).stamps().to_pydict().values(), strict=True):
        status = (nights.images / image_id).stat()
        assert stamp == f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def test_a_file_that_cannot_be_read_now_is_looked_at_again(nights: Nights) -> None:
    nights.run("none")
    path = nights.images / nights.names[3]
    data = path.read_bytes()
    path.unlink()
    path.mkdir()  # even root cannot read that
    assert nights.run("none", images=str(listing_of(nights)))[0] == 0
    path.rmdir()
    path.write_bytes(data)
    edited(path)
    assert nights.run("none", images=str(listing_of(nights)))[0] == 1


def test_images_that_are_out_of_reach_for_a_night_are_not_read_anew(nights: Nights) -> None:
    listed = str(listing_of(nights).rename(nights.out.parent / "list.txt"))
    Path(listed).write_text("".join(f"images/{name}\n" for name in nights.names))
    away = nights.images.with_name("away")
    nights.run("copy", images=listed)
    nights.images.rename(away)
    assert nights.run("copy", images=listed) == (0, set())
    away.rename(nights.images)
    assert nights.run("copy", images=listed) == (0, set())


def listing_of(nights: Nights) -> Path:
    path = nights.images / "list.txt"
    path.write_text("\n".join(nights.names))
    return path


def test_the_old_flag_is_accepted_and_hidden(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["label", str(nights.images / "none"), "-o", str(nights.out), "--classes", "a", "--model", "demo"]
    assert main([*command, "--fast-scan"]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["label", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--verify-content" in text
    assert "--fast-scan" not in text
