"""A copy of the run folder that the first version wrote (see ``tests/data/README.md``), and the commands on it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from labeler.formats.coco import HEAD, HEAD_WITHOUT_INFO
from workflows.commands.cli import main

FROZEN = Path(__file__).parents[1] / "data" / "first_version"
SINCE = FROZEN.with_name("since_first_version.json")
WRITTEN_AT = "/data/first_version"
MODELS = "--model demo --tagger auto"
LABEL = f"{MODELS} --gate-below 0.05 --floor 0.05 --shard-size 4 --ontology"
DATASET = ("images", "labels", "annotations", "data.yaml", "run/verdicts.parquet")
BROKEN = "broken.png"
DONE = (0, 1)  # 1: the image that is cut short failed, once more or long ago


@dataclass(frozen=True)
class Frozen:
    """The copy in ``folder``."""

    folder: Path

    @classmethod
    def copied(cls, to: Path) -> Frozen:
        """A copy whose files are as old as the copy, like those of a checkout, and whose input is where they are.

        The image that could not be read keeps the time that it was seen with: it has no digest that would tell that it
        is still the same.
        """
        folder = to / "first"
        shutil.copytree(FROZEN, folder, copy_function=shutil.copyfile)
        for path in folder.glob("*/run/run.json"):
            content = path.read_text("utf-8").replace(WRITTEN_AT, folder.as_posix())
            path.write_text(content, "utf-8")
        seen = pq.read_table(folder / "dataset" / "run" / "images.parquet").to_pylist()
        (stamp,) = (row["stamp"] for row in seen if row["image_id"] == BROKEN)
        os.utime(folder / "images" / BROKEN, ns=(0, int(stamp.split("-")[1])))
        return cls(folder)

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def out(self) -> Path:
        return self / "dataset"

    @property
    def written(self) -> dict[str, Any]:
        """What the first version made of the folder, without an error of it.

        It took the object that was drawn in ``returned_2.xml`` for a candidate that had not been sent, although their
        masks do not overlap. The object is an added one: its score is 1, and its index follows those of the record.
        """
        content: dict[str, Any] = json.loads((self / "expected.json").read_bytes())
        after = content["after_from"]
        (drawn,) = (row for row in after["decisions"] if row["new_mask"] is not None and row["class"] is not None)
        drawn.update(new_class=drawn["class"], mask=None, **{"class": None})
        after["sha256"] |= {
            "annotations/instances_val.json": "797eb4b75b82b2d72f12adeb7d66a0bf8cd12c09c41a83f05899619d1b6d3a66",
            "run/verdicts.parquet": "fb9ec9b16ad59db0fff1372593e194e7b63cfdb4c3ec64f955353f7e97b54314",
        }
        return content

    @property
    def expected(self) -> dict[str, Any]:
        """What this version makes of it."""
        expected = self.written
        for name, changes in json.loads(SINCE.read_bytes()).items():
            for key, values in changes.items():
                expected[name][key] |= values
        return expected

    def run(self, *arguments: object) -> int:
        return main([str(argument) for argument in arguments])

    def label(self, *more: object, out: object = None) -> int:
        """Label as the last of the frozen commands left it."""
        flags = [*LABEL.split(), self / "shapes.toml"]  # what export set since is remembered
        return self.run("label", self / "images", "-o", out or self.out, *flags, *more)

    def made_older(self) -> None:
        """Give every image that could be read the same time, long before any of the records."""
        for path in (self / "images").rglob("*.*"):
            if path.name != BROKEN:
                os.utime(path, (1e9, 1e9))


def digests(out: Path) -> dict[str, str]:
    """SHA-256 of each file of a dataset, by POSIX path; of COCO without what the first version did not write."""
    found = (path for entry in DATASET for path in (out / entry, *(out / entry).rglob("*")) if path.is_file())
    return {path.relative_to(out).as_posix(): _sha256(path) for path in found}


def _sha256(path: Path) -> str:
    data = path.read_bytes()
    if path.parent.name == "annotations":
        data = data.replace(HEAD.encode(), HEAD_WITHOUT_INFO.encode(), 1)
    return hashlib.sha256(data).hexdigest()


def kept(out: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, inode and time of every record file: what must not change when nothing is labeled."""
    files = sorted((out / "run" / "records").iterdir())
    return {path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def manifest(out: Path) -> list[tuple[str, int, bool]]:
    table = pq.read_table(out / "run" / "images.parquet", columns=["image_id", "shard", "superseded"])
    return [(row["image_id"], row["shard"], row["superseded"]) for row in table.to_pylist()]
