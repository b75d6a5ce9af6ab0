"""The images of an input with their stamps, on disk once they are many, so that memory does not grow with their number.

An image is referred to by its position in the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.local import naming

SCHEMA = pa.schema([pa.field("image_id", pa.string()), pa.field("stamp", pa.string())])
ROWS = 2**14  # of a batch, which is what is in memory
IN_MEMORY = 2**23  # bytes; a larger table is a temporary file

Positions = npt.NDArray[np.int64]
"""Positions in an ``ImageTable``; -1 for images that are not there."""


class ImageTable:
    """Images without duplicates, in the order of ``batches``; looking them up is quick if they are sorted.

    Args:
        batches: of ``SCHEMA``; they are read once.
    """

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._file: Any = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 deleted with the table
        self._ends: list[int] = []
        self._ranges: list[tuple[str, str]] = []  # the least and the greatest id of each batch
        count = 0
        with writing_batches(self._file) as writer:
            for batch in batches:
                if batch.num_rows:
                    writer.write_batch(batch)
                    count += batch.num_rows
                    self._ends.append(count)
                    self._ranges.append(_range(batch.column(0)))
        self._reader = pa.ipc.open_file(pa.PythonFile(self._file, "r"))

    @classmethod
    def of(cls, image_ids: pa.Array, stamps: pa.Array) -> ImageTable:
        """A table of images that are in memory."""
        table = pa.table([image_ids.cast(pa.string()), stamps.cast(pa.string())], schema=SCHEMA)
        return cls(table.to_batches(max_chunksize=ROWS))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All images, in order."""
        return map(self._batch, range(len(self._ends)))

    def ids(self) -> list[str]:
        """The ids of all images, in memory."""
        return [image_id for batch in self.batches() for image_id in batch.column(0).to_pylist()]

    def chosen(self, mask: npt.NDArray[np.bool_]) -> Iterator[tuple[Positions, pa.RecordBatch]]:
        """The images at the positions where ``mask``, bool ``(len(self),)``, is true, behind these positions."""
        for index, end in enumerate(self._ends):
            start = self._start(index)
            if len(rows := np.flatnonzero(mask[start:end])):
                yield rows + start, self._batch(index).take(pa.array(rows))

    def look_up(self, image_ids: pa.Array) -> tuple[Positions, pa.Array]:
        """Where ``image_ids`` are in this table, and their stamps there, which are null where they are not.

        Batches that cannot hold any of them are not read.
        """
        positions = np.full(len(image_ids), -1, np.int64)
        taken = np.full(len(image_ids), -1, np.int64)  # the row of each id in ``stamps``
        stamps, count = [pa.array([], pa.string())], 0
        if len(image_ids):
            least, greatest = _range(image_ids)
            for index, (first, last) in enumerate(self._ranges):
                if first > greatest or last < least:
                    continue
                batch = self._batch(index)
                rows = pc.fill_null(pc.index_in(image_ids, batch.column(0)), -1).to_numpy(zero_copy_only=False)
                found = np.flatnonzero(rows >= 0)
                positions[found] = rows[found] + self._start(index)
                taken[found] = np.arange(count, count + len(found))
                stamps.append(batch.column(1).take(pa.array(rows[found])))
                count += len(found)
        return positions, pa.concat_arrays(stamps).take(pa.array(taken, mask=taken < 0))

    def held(self, image_ids: Iterable[str]) -> list[str]:
        """Those of ``image_ids`` that are in this table."""
        ids = list(image_ids)
        positions, _ = self.look_up(pa.array(ids, pa.string()))
        return [image_id for image_id, position in zip(ids, positions.tolist(), strict=True) if position >= 0]

    def _start(self, index: int) -> int:
        return self._ends[index - 1] if index else 0

    def _batch(self, index: int) -> pa.RecordBatch:
        return self._reader.get_batch(index)


@contextmanager
def writing_batches(file: Any) -> Iterator[pa.RecordBatchFileWriter]:
    """A writer of batches to a temporary file; if its disk is full, the error names the folder of such files."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        naming(Path(gettempdir())),
        pa.ipc.new_file(pa.PythonFile(file, "w"), SCHEMA, options=options) as writer,
    ):
        yield writer


def _range(image_ids: pa.Array) -> tuple[str, str]:
    extent = pc.min_max(image_ids)
    return extent["min"].as_py(), extent["max"].as_py()
