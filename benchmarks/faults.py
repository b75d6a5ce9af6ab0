"""What kills, broken disks, stumbling stores and wrong clocks do to a run: a table with one row per fault.

    python benchmarks/faults.py [--only label,export,review,disk,ray,store,clock] [--every 1] [--ray-kills 120]

Needs the test extra. A labeler without a model stands in for the models, so that a run takes a moment; everything else
is real: record files, datasets, locks, Ray workers, an S3 server on this machine. After each fault the same command
runs again, and what it leaves is compared with an undisturbed run, byte for byte.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pandas  # noqa: F401 with the next one: imported here, not anew by every child
import pyarrow.dataset  # noqa: F401
from fault_parts import HEADER, Tally, count, count_records, differences, digests
from fault_processes import clocks, ray_drivers, ray_workers, store_kills, store_stumbles
from PIL import Image

from labeler.opencv import opencv
from tests.support import kill_points
from tests.support.fault_child import in_child
from tests.support.stand_in import GOOD, Silent, stand_in_job, write_images
from workflows.label import label

KINDS = ("label", "export", "review", "disk", "ray", "store", "clock")


def no_space() -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def disk_error() -> NoReturn:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def at_every_change(
    scratch: Path,
    name: str,
    make: Callable[[Path], None],
    work: Callable[[Path], None],
    every: int,
    fault: Callable[[], NoReturn] | None = None,
) -> Tally:
    """Run ``work`` with a fault before every change of the file system, a second one while it recovers, then whole.

    Args:
        make: writes the folder that ``work`` starts from; its images are in the folder ``input``.
        every: 1 for every change, 2 for every other one, ...
        fault: None kills the process.
    """
    tally = Tally(name)
    start, copy, undisturbed = (scratch / name.split()[0] / part for part in ("start", "copy", "undisturbed"))
    for folder in (start, copy, undisturbed):
        shutil.rmtree(folder, ignore_errors=True)
    in_child(lambda: make(start))
    shutil.copytree(start, undisturbed)
    whole = in_child(lambda: work(undisturbed))
    if whole.code:
        raise SystemExit(f"{name}: the undisturbed run failed:\n{whole.said}")
    wanted = digests(undisturbed / "out")
    images = {digest for path, digest in digests(start).items() if path.startswith(("input", "out/images"))}
    for first in range(1, whole.changes + 1, every):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(start, copy)
        for fault_at in (first, 1 + first * 7 % (whole.changes + 10)):
            outcome = in_child(lambda: work(copy), fault_at, fault)
            tally.tries += outcome.was_hit
            count(outcome, tally)
            tally.lost += len(images - set(digests(copy).values()))
        outcome = in_child(lambda: work(copy))
        count(outcome, tally)
        differences(copy / "out", wanted, f"before changes {first} and {1 + first * 7 % (whole.changes + 10)}", tally)
        count_records(copy / "out", [], tally)
    return tally


def _make_input(folder: Path) -> None:
    write_images(folder / "input", [GOOD] * 14)


def _label(folder: Path) -> None:
    label(stand_in_job(folder / "input", folder / "out"), Silent())


def rows(kinds: set[str], scratch: Path, every: int, ray_kills: int) -> Iterator[Tally]:
    exported = (kill_points.make, kill_points.exported)
    if "label" in kinds:
        yield at_every_change(scratch, "label, one process: killed", _make_input, _label, every)
    if "export" in kinds:
        yield at_every_change(scratch, "export: killed", *exported, every)
    if "review" in kinds:
        yield at_every_change(scratch, "review: killed", kill_points.make, kill_points.decided, every)
    if "disk" in kinds:
        for fault, said in ((no_space, "no space left"), (disk_error, "input/output error")):
            yield at_every_change(scratch, f"label, one process: {said}", _make_input, _label, every, fault)
            yield at_every_change(scratch, f"export: {said}", *exported, every, fault)
    if "ray" in kinds:
        yield ray_workers(scratch, ray_kills)
        yield ray_drivers(scratch, max(ray_kills // 6, 1))
    if "store" in kinds:
        yield store_stumbles(scratch, 40 // every)
        yield store_kills(scratch, 40 // every)
    if "clock" in kinds:
        yield from clocks(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of faults, comma-separated")
    parser.add_argument("--every", type=int, default=1, help="2 tries every other place, and so on")
    parser.add_argument("--ray-kills", type=int, default=120)
    args = parser.parse_args()
    os.fsync = lambda fd: None  # a kill loses nothing that was written
    Image.init()  # like the imports above: all readers and OpenCV are loaded once, not by every child
    opencv()
    print(HEADER)
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows(set(args.only.split(",")), Path(scratch), args.every, args.ray_kills):
            print(row, flush=True)


if __name__ == "__main__":
    main()
