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
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from labeler.errors import RunError
from labeler.files.parallel import in_order
from labeler.files.storage import free_path, move, remove, scan
from labeler.record_files import fault_of_records

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)

NAMES_SHOWN = 5
SHARDS_PER_PASS = 10_000_000
MOST_PASSES = 200  # the manifest stores shard indices in 32 bits
IndexT = TypeVar("IndexT", int, npt.NDArray[np.int32])
_NAME = re.compile(r"(?:pass-([1-9][0-9]{0,2})-)?([0-9]{6,7})\.parquet")


def pass_of(index: IndexT) -> IndexT:
    """The labeling pass that a shard belongs to, or those of several shards."""
    return index // SHARDS_PER_PASS


class RecordFiles(Mapping[int, "AnyPath"]):
    """Paths of record files by shard index, in order. In memory are the indices alone.

    Args:
        shards: int32 ``(n,)``, sorted.
        path: of the record file of a shard.
    """

    def __init__(self, shards: npt.NDArray[np.int32], path: Callable[[int], AnyPath]) -> None:
        self.shards, self._path = shards, path

    def __len__(self) -> int:
        return len(self.shards)

    def __iter__(self) -> Iterator[int]:
        return map(int, self.shards)

    def __contains__(self, shard: object) -> bool:
        place = int(np.searchsorted(self.shards, shard)) if isinstance(shard, int) else len(self)
        return place < len(self) and bool(self.shards[place] == shard)

    def __getitem__(self, shard: int) -> AnyPath:
        if shard not in self:
            raise KeyError(shard)
        return self._path(shard)

    def of(self, shards: Collection[int]) -> RecordFiles:
        """The files of those of ``shards`` that have one."""
        return self.chosen(np.isin(self.shards, np.fromiter(shards, np.int32, len(shards))))

    def chosen(self, mask: npt.NDArray[np.bool_]) -> RecordFiles:
        """The files where ``mask``, bool ``(n,)``, is true."""
        return RecordFiles(self.shards[mask], self._path)


class ShardFiles:
    """The record files in ``folder``; unusable ones are moved to the folder ``unusable``."""

    def __init__(self, folder: AnyPath, unusable: AnyPath) -> None:
        self.folder = folder
        self._unusable = unusable
        self._whole = np.empty(0, np.int32)  # shards whose record file was checked and is usable, sorted
        self._unfit: list[tuple[AnyPath, str]] = []  # unusable files, each with the reason
        self._named: set[str] = set()  # files that a warning has named

    def path(self, index: int) -> AnyPath:
        return self.folder / self._name(index)

    def _name(self, index: int) -> str:
        labeling_pass, number = divmod(index, SHARDS_PER_PASS)
        return f"{f'pass-{labeling_pass}-' if labeling_pass else ''}{number:06d}.parquet"

    def by_name(self) -> RecordFiles:
        """All files with the name of a record file, by shard index; their content is not checked."""
        found = filter(None, map(_NAME.fullmatch, self._names()))
        indices = [int(name[1] or 0) * SHARDS_PER_PASS + int(name[2]) for name in found]
        return RecordFiles(np.unique(np.array(indices, np.int32)), self.path)

    def labeled(
        self, shards: npt.NDArray[np.int32], ids: Callable[[npt.NDArray[np.int32]], Iterable[tuple[int, pa.Array]]]
    ) -> RecordFiles:
        """The files that hold exactly the records of the images of their shard, by shard index.

        A warning names each other file once.

        Args:
            shards: int32 ``(n,)``, those of the run, sorted.
            ids: tells the image ids of each of some shards, by its index; it is asked for files not checked before.

        Raises:
            RunError: a record file was written by a newer labeler.
        """
        names = self._names()
        there = np.array([index for index in shards.tolist() if self._take(index, names)], np.int32)
        if foreign := sorted(names - self._named):
            self._named.update(foreign)
            shown = ", ".join(foreign[:NAMES_SHOWN]) + (", …" if len(foreign) > NAMES_SHOWN else "")
            logger.warning("%s: ignoring files that are not records of this run: %s", self.folder, shown)
        self._unfit = []
        unseen = np.setdiff1d(there, self._whole, assume_unique=True)
        if len(unseen):
            faults = in_order(lambda shard: (*shard, fault_of_records(self.path(shard[0]), shard[1])), ids(unseen))
            usable = [index for index, image_ids, fault in faults if self._is_usable(index, len(image_ids), fault)]
            self._whole = np.union1d(self._whole, np.array(usable, np.int32))
        return RecordFiles(np.intersect1d(there, self._whole, assume_unique=True), self.path)

    def _take(self, index: int, names: set[str]) -> bool:
        """Whether the file of a shard is among ``names``; it is removed from them."""
        if (name := self._name(index)) not in names:
            return False
        names.remove(name)
        return True

    def _is_usable(self, index: int, images: int, fault: str) -> bool:
        if not fault:
            return True
        path = self.path(index)
        self._unfit.append((path, fault))
        if path.name not in self._named:
            self._named.add(path.name)
            logger.warning("%s: %s; its %d images count as not labeled", path, fault, images)
        return False

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
        self._whole = self._whole[:0]

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
