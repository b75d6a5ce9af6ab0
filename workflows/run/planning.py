"""Plan which shard gets which image: what becomes of the manifest when the input is listed again.

The manifest passes batch by batch; images of the input are known by their position, and take a few bytes each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.image_table import ImageTable
from workflows.run.manifest import SCHEMA, Manifest
from workflows.run.shard_files import MOST_PASSES, SHARDS_PER_PASS, pass_of

Mask = npt.NDArray[np.bool_]
"""Bool ``(n,)``, one for each image of the input."""


@dataclass(frozen=True)
class Changes:
    """What became of the images of the input since they were labeled.

    Attributes:
        changed: the content is another one, so every pass is to label the image again.
        missing: the file is missing now, and the image keeps the stamp that is saved.
        unread: the file could not be read, and the image gets an empty stamp, so the next run checks it again.
    """

    changed: Mask
    missing: Mask
    unread: Mask

    @classmethod
    def none(cls, images: ImageTable) -> Changes:
        return cls(*(np.zeros(len(images), bool) for _ in range(3)))

    @property
    def count(self) -> int:
        """How many images changed."""
        return int(self.changed.sum())


class Planning:
    """The manifest for an input with the images ``images``.

    Args:
        prune: forget images that are not in the input.
        passes: the labeling passes that get new images.
        retried: known images that those of ``passes`` are to label again.
        given_up: images that no other pass gets, unless they changed.

    Attributes:
        forgotten: how many images were forgotten, once ``batches`` were read.
    """

    def __init__(
        self,
        images: ImageTable,
        shard_size: int,
        changes: Changes,
        prune: bool,
        passes: Collection[int],
        retried: Collection[str] = (),
        given_up: Collection[str] = (),
    ) -> None:
        self._images, self._shard_size, self._changes, self._prune = images, shard_size, changes, prune
        self._passes = sorted(passes)
        self._retried = pa.array(sorted(retried), pa.string())
        self._given_up = np.zeros(len(images), bool)
        positions, _ = images.look_up(pa.array(sorted(given_up), pa.string()))
        positions = positions[positions >= 0]
        self._given_up[positions] = ~changes.changed[positions]
        self.forgotten = 0

    def batches(self, manifest: Manifest) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """The rows that are to be in the manifest, and whether each batch of them differs from what is there.

        Raises:
            ValueError: there are too many passes, or too many shards in one.
        """
        self.forgotten, due = 0, list(self._passes)
        for number, rows in manifest.by_pass():
            while due and due[0] < number:
                yield from self._of_pass(due.pop(0), ())
            due = [each for each in due if each != number]
            yield from self._of_pass(number, rows)
        for number in due:
            yield from self._of_pass(number, ())

    def _of_pass(self, number: int, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, bool]]:
        if number >= MOST_PASSES:
            raise ValueError("too many labeling passes; label into another folder, with all classes at once")
        runs = number in self._passes
        has_shard, next_shard = np.zeros(len(self._images), bool), number * SHARDS_PER_PASS
        forgotten = 0
        for batch in batches:
            positions, stamps = self._images.look_up(batch.column(0))
            is_there = positions >= 0
            superseded = batch.column(3).to_numpy(zero_copy_only=False).copy()
            gone = ~superseded & ~is_there
            forgotten += int(gone.sum())
            superseded |= is_there & self._changes.changed[positions]
            if runs and len(self._retried):
                superseded |= pc.is_in(batch.column(0), self._retried).to_numpy(zero_copy_only=False)
            if self._prune:
                superseded |= gone
            has_shard[positions[~superseded & is_there]] = True
            stamps = pc.if_else(pa.array(is_there & self._changes.missing[positions]), None, stamps)
            stamps = pc.if_else(pa.array(is_there & self._changes.unread[positions]), "", stamps)
            stamps = pc.coalesce(stamps, batch.column(2))
            columns = [batch.column(0), batch.column(1), stamps, pa.array(superseded)]
            planned = pa.record_batch(columns, schema=SCHEMA)
            yield planned, not planned.equals(batch)
            next_shard = batch.column(1)[-1].as_py() + 1
        if self._prune:
            self.forgotten = max(self.forgotten, forgotten)
        if runs:
            has_none = has_shard  # in place, since there may be ten million images
            has_none |= self._given_up
            np.logical_not(has_none, out=has_none)
            yield from self._new(has_none, next_shard, number)

    def _new(self, mask: Mask, first_shard: int, number: int) -> Iterator[tuple[pa.RecordBatch, bool]]:
        """The rows of new images, in shards of their own from ``first_shard`` on."""
        count = int(mask.sum())
        if count and pass_of(first_shard + (count - 1) // self._shard_size) != number:
            raise ValueError("too many shards; label into another folder with a larger --shard-size")
        done = 0
        for positions, batch in self._images.chosen(mask):
            shards = first_shard + np.arange(done, done + len(positions)) // self._shard_size
            stamps = pc.if_else(pa.array(self._changes.unread[positions]), "", batch.column(1))
            columns = [batch.column(0), pa.array(shards, pa.int32()), stamps, pa.array(np.zeros(len(positions), bool))]
            yield pa.record_batch(columns, schema=SCHEMA), True
            done += len(positions)


def with_stamps(batch: pa.RecordBatch, images: ImageTable) -> pa.RecordBatch:
    """Rows of the manifest with the stamps of those that are among ``images``."""
    _, stamps = images.look_up(batch.column(0))
    columns = [batch.column(0), batch.column(1), pc.coalesce(stamps, batch.column(2)), batch.column(3)]
    return pa.record_batch(columns, schema=SCHEMA)
