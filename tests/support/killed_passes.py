"""A program that kills a run which adds a class and renames another one, at several changes of the file system.

``python killed_passes.py FOLDER STRIDE`` kills before every STRIDE-th change, once more in the run after that, and lets
a third one finish. Prints one JSON line: how many kills there were, and what differs from an undisturbed run.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pandas  # noqa: F401 with the next one: imported here, not anew by every child
import pyarrow.dataset  # noqa: F401
from PIL import Image

sys.path.append(str(Path(__file__).parents[2]))  # behind the installed packages, which are what is tested

from ontologies import Ontology
from tests.support.fault_child import Outcome, in_child
from tests.support.kill_points import contents
from tests.support.stand_in import FindsEach, Silent, stand_in_job, write_images
from workflows.label import label
from workflows.settings.export import ExportConfig


def labeled(folder: Path, classes: str) -> None:
    images = folder.parent / "input"
    config = ExportConfig(val_share=0.3, link="copy")  # links would change the images' times
    ontology = Ontology.from_text(classes)
    label(stand_in_job(images, folder, FindsEach(), ontology=ontology, export=config, shard_size=3), Silent())


def run(folder: Path, classes: str, kill_at: int = 0) -> Outcome:
    outcome = in_child(lambda: labeled(folder, classes), kill_at)
    if outcome.code > 0 or outcome.hung:
        raise SystemExit(f"the run failed after a kill at {kill_at}: {outcome.said}")
    return outcome


def main(folder: Path, stride: int) -> None:
    os.fsync = lambda fd: None  # a kill loses nothing that was written, and the disk may be busy
    Image.init()
    start, undisturbed, copy = folder / "start", folder / "undisturbed", folder / "copy"
    write_images(folder / "input", range(40, 44))
    run(start, "dog, cat")
    write_images(folder / "input" / "new", [50])
    shutil.copytree(start, undisturbed)
    changes = run(undisturbed, "bird, dog=hound, cat").changes
    wanted = contents(undisturbed)
    del wanted["run/summary.json"]
    kills, differing = 0, []
    for first in range(1, changes + 1, stride):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(start, copy)
        kills += run(copy, "bird, dog=hound, cat", first).was_hit
        second = 1 + first * 7 % (changes + 10)
        kills += run(copy, "bird, dog=hound, cat", second).was_hit
        run(copy, "bird, dog=hound, cat")
        found = contents(copy)
        del found["run/summary.json"]
        if found != wanted:
            differing.append(
                [first, second, *sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))]
            )
    print(json.dumps({"changes": changes, "kills": kills, "differing": differing}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
