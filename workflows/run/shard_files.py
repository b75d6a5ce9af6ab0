"""Shards and their record files.

    OUT/run/records/000000.parquet …           of the first labeling pass
    OUT/run/records/pass-1-000000.parquet …    of the next one
    OUT/run/unusable/000003.parquet …          unusable record files, which are moved here

Every pass has shards of its own. They are numbered through: those of the pass K begin at K × ``SHARDS_PER_PASS``.

A record file is usable if it is intact and holds the records of exactly its shard's images.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from labeler.errors import RunError
from labeler.files.parallel import in_order
from labeler.files.storage import free_path, move, remove, scan
from labeler.record_files import fault_of_records
from workflows.run.shard import Shard as Shard

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)

NAMES_SHOWN = 5
SHARDS_PER_PASS = 10_000_000
MOST_PASSES = 200  # the manifest stores shard indices in 32 bits
_NAME = re.compile(r"(?:pass-([1-9][0-9]{0,2})-)?([0-9]{6,7})\.parquet")


def pass_of(index: int) -> int:
    """The labeling pass that a shard belongs to."""
    return index // SHARDS_PER_PASS


class ShardFiles:
    """The record files in ``folder``; unusable ones are moved to the folder ``unusable``."""

    def __init__(self, folder: AnyPath, unusable: AnyPath) -> None:
        self.folder = folder
        self._unusable = unusable
        self._whole: set[int] = set()  # shards whose record file was checked and is usable
        self._unfit: list[tuple[AnyPath, str]] = []  # unusable files, each with the reason
        self._named: set[str] = set()  # files that a warning has named

    def path(self, index: int) -> AnyPath:
        labeling_pass, number = divmod(index, SHARDS_PER_PASS)
        return self.folder / f"{f'pass-{labeling_pass}-' if labeling_pass else ''}{number:06d}.parquet"

    def by_name(self) -> dict[int, AnyPath]:
        """All files with the name of a record file, by shard index; their content is not checked."""
        found = [(_NAME.fullmatch(name), self.folder / name) for name in self._record_names()]
        return {int(name[1] or 0) * SHARDS_PER_PASS + int(name[2]): path for name, path in found if name}

    def labeled(self, ids: Mapping[int, pa.Array]) -> dict[int, AnyPath]:
        """The files that hold exactly the records of the images of their shard, by shard index.

        A warning names each other file once.

        Args:
            ids: the image ids of each shard, by its index.

        Raises:
            RunError: a record file was written by a newer labeler.
        """
        names = self._names()
        files = {index: path for index in ids if (path := self.path(index)).name in names}
        if foreign := sorted(names - {path.name for path in files.values()} - self._named):
            self._named.update(foreign)
            shown = ", ".join(foreign[:NAMES_SHOWN]) + (", …" if len(foreign) > NAMES_SHOWN else "")
            logger.warning("%s: ignoring files that are not records of this run: %s", self.folder, shown)
        unseen = [index for index in files if index not in self._whole]
        self._unfit = []
        faults = in_order(lambda index: fault_of_records(files[index], ids[index]), unseen)
        for index, fault in zip(unseen, faults, strict=True):
            if not fault:
                self._whole.add(index)
                continue
            self._unfit.append((files[index], fault))
            if files[index].name not in self._named:
                self._named.add(files[index].name)
                logger.warning("%s: %s; its %d images count as not labeled", files[index], fault, len(ids[index]))
        return {index: path for index, path in files.items() if index in self._whole}

    def set_unfit_aside(self) -> None:
        """Move away the unusable files that the last call of ``labeled`` found."""
        for path, fault in self._unfit:
            self._set_aside(path, fault)
        self._unfit = []

    def clear(self) -> None:
        """Delete the record files; files that only have the name of one are moved away."""
        for path in [self.folder / name for name in self._record_names()]:
            try:
                fault = fault_of_records(path)
            except RunError as error:  # written by a newer labeler
                fault = str(error).removeprefix(f"{path} ")
            if fault:
                self._set_aside(path, fault)
            else:
                remove(path)
        self._whole.clear()

    def _set_aside(self, path: AnyPath, fault: str) -> None:
        target = free_path(self._unusable / path.name)
        move(path, target)
        logger.warning("%s: cannot be used (%s); moved to %s", path, fault, target)

    def _record_names(self) -> list[str]:
        return sorted(filter(_NAME.fullmatch, self._names()))

    def _names(self) -> set[str]:
        """The names of all files among the records, except hidden files, which killed writes leave behind."""
        try:
            return {entry.name for entry in scan(self.folder) if not entry.name.startswith(".")}
        except FileNotFoundError:
            return set()
