"""The run folder: which images there are, which shard each belongs to, and which shards are done.

    OUT/run/run.json              what the labels were made with
    OUT/run/images.parquet        the manifest: image_id and shard
    OUT/run/records/000000.parquet …
    OUT/run/attempts/…            what is being worked on, see attempts.py

A shard is done when its record file is there; files appear whole or not at all. So a killed run goes on where it was,
and new images get shards of their own behind the old ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from labeler.errors import RunError

_MANIFEST = pa.schema(
    [pa.field("image_id", pa.string(), nullable=False), pa.field("shard", pa.int32(), nullable=False)]
)
VERSION = 1  # of run.json
# What an export makes; found without a run beside it, it is somebody's own data.
DATASET_ENTRIES = ("images", "labels", "annotations", "data.yaml")


@dataclass(frozen=True)
class Shard:
    """The unit of work: some images and the file their records go to."""

    index: int
    image_ids: tuple[str, ...]
    records_path: Path

    @property
    def attempts_path(self) -> Path:
        return self.records_path.parent.parent / "attempts" / f"{self.index:06d}.json"


class RunFolder:
    """``OUT`` of one labeling, with its ``run`` folder."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output / "run"
        self.records = self.path / "records"
        self._settings = self.path / "run.json"
        self._manifest = self.path / "images.parquet"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other runs; the lock goes with the process, however that ends.

        Raises:
            RunError: another run lives here, or the folder cannot be written.
        """
        if not self._settings.exists():
            foreign = [name for name in DATASET_ENTRIES if (self.output / name).exists()]
            if foreign:
                raise RunError(
                    f"{self.output} holds {', '.join(foreign)} that no run made; choose an empty or new folder with -o"
                )
        self.records.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / "lock", timeout=0):
                yield
        except Timeout:
            raise RunError(f"{self.output} is in use by another run; wait for it or choose another -o") from None

    def read_settings(self) -> dict[str, Any]:
        """What ``run.json`` says.

        Raises:
            RunError: this is no run folder.
        """
        try:
            settings: dict[str, Any] = json.loads(self._settings.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.output} holds no run (there is no {self._settings}); label images into it first"
            ) from None
        except ValueError as error:
            raise RunError(f"{self._settings} is damaged ({error}); label again with --restart") from None
        if not isinstance(settings, dict) or settings.get("version") != VERSION:
            raise RunError(f"{self._settings} is not of version {VERSION}; label again with --restart")
        return settings

    def write_settings(self, settings: dict[str, Any]) -> None:
        temporary = self._settings.with_suffix(".partial")
        temporary.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _replace(temporary, self._settings)

    def begin(self, settings: dict[str, Any], restart: bool) -> None:
        """Take ``settings`` for this run; with records here, those under ``labeling`` must be what made these.

        Raises:
            RunError: they are not, or the records are of another input folder.
        """
        if restart or not self.record_paths():
            for path in (*self.record_paths(), self._manifest):
                path.unlink(missing_ok=True)
        else:
            self._refuse_other(self.read_settings(), settings)
        self.write_settings(settings)

    def _refuse_other(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        if old["input"] != new["input"] and os.path.exists(old["input"]):  # if it is gone, it was moved
            raise RunError(f"{self.output} holds labels of {old['input']}, not of {new['input']}; take a new -o")
        changed = [key for key in new["labeling"] if old["labeling"].get(key) != new["labeling"][key]]
        if changed:
            raise RunError(
                f"{self.output} was labeled with another {', '.join(changed)}; take a new -o, label all again with "
                "--restart, or change thresholds and formats alone with `labeler export`"
            )

    def plan(self, image_ids: Sequence[str], shard_size: int) -> None:
        """Give every image that the manifest does not know a shard behind the old ones."""
        known = self._read_manifest()
        old = set(known.column("image_id").to_pylist())
        new = [image_id for image_id in image_ids if image_id not in old]
        if not new:
            return
        first = max(known.column("shard").to_pylist(), default=-1) + 1
        added = pa.table(
            {"image_id": new, "shard": [first + position // shard_size for position in range(len(new))]},
            schema=_MANIFEST,
        )
        temporary = self._manifest.with_suffix(".partial")
        pq.write_table(pa.concat_tables([known, added]), temporary)
        _replace(temporary, self._manifest)

    def _read_manifest(self) -> pa.Table:
        try:
            return pq.read_table(self._manifest, schema=_MANIFEST)
        except FileNotFoundError:
            if not self.record_paths():
                return _MANIFEST.empty_table()
            cause = "is missing"
        except pa.ArrowInvalid:
            cause = "is damaged"
        raise RunError(f"{self._manifest} {cause}, so records cannot be told apart; label all again with --restart")

    def shards(self) -> list[Shard]:
        """Every shard of the manifest, in order."""
        members: dict[int, list[str]] = {}
        for row in self._read_manifest().to_pylist():
            members.setdefault(row["shard"], []).append(row["image_id"])
        return [Shard(i, tuple(members[i]), self.records / f"{i:06d}.parquet") for i in sorted(members)]

    def record_paths(self) -> list[Path]:
        """The record files that are there, in shard order."""
        return sorted(self.records.glob("*.parquet"))

    def clear_attempts(self) -> None:
        """Forget what was begun and not finished; for a stop that was no crash, and before trying anew."""
        for path in (self.path / "attempts").glob("*.json"):
            path.unlink(missing_ok=True)

    def drop_failed(self) -> None:
        """Forget the shards in which an image failed, so that they are labeled again."""
        for path in self.record_paths():
            if "error" in pq.read_table(path, columns=["status"]).column("status").to_pylist():
                path.unlink()


def _replace(temporary: Path, path: Path) -> None:
    """Put a written file in its place; a power cut leaves the old one or the whole new one."""
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
