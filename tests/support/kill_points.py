"""A program that kills an export at every change of the file system, and its recovery too.

Prints one JSON line: how many kills there were, and what was lost or differs from an undisturbed export.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas  # noqa: F401 with the next one: imported here, not anew by every child
import pyarrow.dataset  # noqa: F401
from PIL import Image

sys.path.append(str(Path(__file__).parents[2]))  # behind the installed packages, which are what is tested

from labeler.decisions import Decision
from labeler.files.images import content_digest
from labeler.opencv import opencv
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from tests.support.fault_child import Outcome, in_child
from tests.support.run_folders import ONTOLOGY, instance, records_of
from tests.support.run_settings import run_settings
from workflows.dataset.decision_log import append_decisions, read_decisions
from workflows.dataset.export import export
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

NAMES = ("a.jpg", "a.png", "b/c.png", "images/d.png", "e.png")
GONE = ("a.png", "images/d.png")
BEFORE = ExportConfig(val_share=0.3, formats=("coco", "yolo", "cutouts"), layout="nested")
AFTER = ExportConfig(
    val_share=0.7,
    formats=("coco", "yolo"),
    quality=QualityConfig(accept_score=0.75),
    seed=1,
    layout="nested",
    image_files="convert",
)
TURNED = Image.Exif()
TURNED[0x0112] = 3  # upside down, so that they are converted


FOUND = (instance(0, 0.95, 0), instance(1, 0.8, 21), instance(0, 0.4, 42))


def make(folder: Path, names: tuple[str, ...] = NAMES) -> None:
    """A labeled and exported folder, with some of the input gone since, and one image labeled since."""
    for number, name in enumerate(names):
        path = folder / "input" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (40 * number, 0, 0)).save(path, exif=TURNED if number < 4 else None)
    run = RunFolder(folder / "out")
    run.records.mkdir(parents=True)
    run.settings.write(run_settings(folder / "input"))
    write_records(run.records / "000000.parquet", records_of(folder / "input", names[:-1], FOUND))
    export(run, folder / "input", ONTOLOGY, BEFORE)
    write_records(run.records / "000001.parquet", records_of(folder / "input", names[-1:], FOUND))
    for name in GONE:
        (folder / "input" / name).unlink(missing_ok=True)


def exported(folder: Path) -> None:
    run = RunFolder(folder / "out")
    with run.locked():
        export(run, folder / "input", ONTOLOGY, AFTER, resplit=True)


def decided(folder: Path) -> None:
    run = RunFolder(folder / "out")
    with run.locked():
        have = len(read_decisions(run))
        append_decisions(run, DECISIONS[have:])
        export(run, folder / "input", ONTOLOGY, BEFORE)


DECISIONS = [
    Decision("a.jpg", "reject", "dog", FOUND[0].rle),
    Decision("b/c.png", "accept", "dog", FOUND[2].rle, "cat"),
    Decision("images/d.png", "accept", None, None, "dog", instance(0, 0.9, 10).rle),
]


def run(work: Callable[[], None], kill_at: int = 0) -> Outcome:
    """Run ``work`` in a process of its own, killed at that change; it must not fail in any other way."""
    outcome = in_child(work, kill_at)
    if outcome.code > 0 or outcome.hung:
        raise SystemExit(f"the export failed after a kill at {kill_at}: {outcome.said}")
    return outcome


def contents(folder: Path) -> dict[str, str]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    left_out = ("run/ledger.parquet", "run/lock", "run/owner.json")  # times of files
    names = {path.relative_to(folder).as_posix(): content_digest(path.read_bytes()) for path in paths}
    return {name: digest for name, digest in names.items() if name not in left_out}


def main(folder: Path, work: Callable[[Path], None]) -> None:
    os.fsync = lambda fd: None  # a kill loses nothing that was written, and the disk may be busy
    Image.init()  # like the imports above: all readers and OpenCV are loaded once, not by every child
    opencv()
    start, undisturbed = folder / "start", folder / "undisturbed"
    run(lambda: make(start))
    shutil.copytree(start, undisturbed)
    changes = run(lambda: work(undisturbed)).changes
    wanted = contents(undisturbed / "out")
    images = {content_digest(path.read_bytes()) for path in (start / "out" / "images").rglob("*.*")}
    images |= {content_digest(path.read_bytes()) for path in (start / "input").rglob("*.*")}
    kills, lost, differing = 0, [], []
    for first in range(1, changes + 1):
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(start, copy)
        kills += run(lambda: work(copy), first).was_hit  # noqa: B023
        lost += [(first, 0)] * (not images <= set(contents(copy).values()))
        second = 1 + first * 7 % (changes + 10)
        kills += run(lambda: work(copy), second).was_hit  # noqa: B023
        lost += [(first, second)] * (not images <= set(contents(copy).values()))
        run(lambda: work(copy))  # noqa: B023
        differing += [(first, second)] * (contents(copy / "out") != wanted)
    print(json.dumps({"changes": changes, "kills": kills, "lost": lost, "differing": differing}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), {"export": exported, "decisions": decided}[sys.argv[2]])
