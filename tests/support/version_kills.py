"""A program that kills an export at every change of the file system while it publishes a version.

Prints one JSON line: what ``latest`` was after each kill, and after which of them a version was not whole, or the next
export did not publish what an undisturbed one does.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # behind the installed packages, which are what is tested

from PIL import Image

from labeler.opencv import opencv
from tests.support import kill_points
from tests.support.run_folders import ONTOLOGY
from workflows.dataset.export import export
from workflows.run.folder import RunFolder

NAMES = ("a.jpg", "b/c.png")
ALONE = 4  # changes of the dataset itself before the version, the last ones of which are hit too
RESUMED = 3  # one of so many kills is followed by an undisturbed export


def publish(folder: Path, with_version: bool = True) -> None:
    run = RunFolder(folder / "out")
    with run.locked():
        export(run, folder / "input", ONTOLOGY, replace(kill_points.AFTER, version_datasets=with_version))


def make(folder: Path) -> None:
    kill_points.make(folder, NAMES)
    run = RunFolder(folder / "out")
    with run.locked():
        export(run, folder / "input", ONTOLOGY, replace(kill_points.BEFORE, version_datasets=True))


def versions(folder: Path) -> dict[str, dict[str, str]]:
    """Content digests of all that a reader may take for a version."""
    every = kill_points.contents(folder / "out" / "versions")
    found: dict[str, dict[str, str]] = {}
    for name, digest in every.items():
        version, _, file = name.partition("/")
        if not version.startswith("."):
            found.setdefault(version, {})[file] = digest
    return found


def latest(folder: Path) -> str:
    return os.readlink(folder / "out" / "versions" / "latest")


def main(folder: Path) -> None:
    os.fsync = lambda fd: None  # a kill loses nothing that was written, and the disk may be busy
    Image.init()  # all readers and OpenCV are loaded once, not by every child
    opencv()
    start, undisturbed, copy = folder / "start", folder / "undisturbed", folder / "copy"
    kill_points.run(lambda: make(start))
    for each in (copy, undisturbed):
        shutil.copytree(start, each, symlinks=True)
    first = kill_points.run(lambda: publish(copy, with_version=False)).changes - ALONE
    changes = kill_points.run(lambda: publish(undisturbed)).changes
    before, whole = versions(start), versions(undisturbed)
    # Threads make folders, sometimes both at once and one in vain. So one number may stand for different changes.
    kills, seen, half, differing = 0, [], [], []
    for number in range(first, changes + 1):
        shutil.rmtree(copy)
        shutil.copytree(start, copy, symlinks=True)
        kills += kill_points.run(lambda: publish(copy), number).was_hit
        seen.append(latest(copy))
        half += [number] * (versions(copy) not in (before, whole) or seen[-1] not in versions(copy))
        if number % RESUMED:
            continue
        kill_points.run(lambda: publish(copy))
        left = {path.name for path in (copy / "out" / "versions").iterdir()}
        is_same = versions(copy) == whole and latest(copy) == latest(undisturbed)
        differing += [number] * (not is_same or left != {*whole, "latest"})
    print(json.dumps({"kills": kills, "latest": seen, "versions": len(whole), "half": half, "differing": differing}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
