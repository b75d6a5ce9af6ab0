"""The manifest: the images of a run, and the shard of each.

    OUT/run/images.parquet     image_id, shard, stamp (size and times of the file), superseded

New images are assigned to new shards, after the existing ones. So are changed images: their old rows and records stay,
marked as superseded. The rows of a shard are in the order of its records. Every labeling pass has shards, and so rows,
of its own.

The file is read and written batch by batch, so memory does not grow with the number of images. A change writes the
whole file anew under another name and then replaces it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.errors import FormatError, RunError
from labeler.files.image_ids import check_image_ids
from labeler.files.storage import as_local, info, replacing, storage_of
from labeler.migrations import VERSIONS, check_version, footer_version, migrate
from labeler.record_checks import check_extent
from workflows.run.shard_files import SHARDS_PER_PASS

if TYPE_CHECKING:
    from labeler.files.paths import FileInfo
    from labeler.files.storage import AnyPath

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("superseded", pa.bool_(), nullable=False),
    ]
)
ROWS = 2**16  # of a row group
ROWS_READ = 2**14  # of a batch, which is what is in memory

Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class PlannedShards:
    """The shards of a manifest, in order.

    Attributes:
        index, images, current: int32 ``(n,)``, of each shard: its index, the number of its images, and the number of
            those that are not superseded.
    """

    index: Indices
    images: Indices
    current: Indices


class Manifest:
    """The manifest at ``path``; there may be none, which is as an empty one.

    Reading raises a RunError if it is damaged, or was written by a newer labeler.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self._checked: FileInfo | None = None  # the file whose ids are known to be safe
        self._shards: tuple[FileInfo | None, PlannedShards] | None = None

    def exists(self) -> bool:
        return info(self.path) is not None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, in order, with exactly the columns of this version."""
        file = info(self.path)
        try:
            yield from _in_batches(
                _checked(_rows(self.path), self.path, with_ids=file is None or file != self._checked), ROWS_READ
            )
        except FileNotFoundError:
            return
        except (FormatError, pa.ArrowException) as error:
            raise unusable(self.path, f"is damaged ({str(error).removeprefix(f'{self.path}: ')})") from error
        except ValueError as error:
            raise RunError(f"{self.path}: {error}; do not use this run folder unless you know who made it") from None
        self._checked = file

    def of_shards(self, wanted: Indices) -> Iterator[pa.RecordBatch]:
        """The rows of the shards ``wanted``, in order."""
        batches = ((batch, np.isin(batch.column(1).to_numpy(), wanted)) for batch in self.batches())
        return (batch if mask.all() else batch.filter(pa.array(mask)) for batch, mask in batches if mask.any())

    def by_shard(self, wanted: Indices) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows of each of the shards ``wanted``, by shard index."""
        return _by(self.of_shards(wanted), 1)

    def by_pass(self) -> Iterator[tuple[int, Iterator[pa.RecordBatch]]]:
        """The rows of each labeling pass, by its number; those of one are to be read before the next is asked for."""
        rows = groupby(_by(self.batches(), SHARDS_PER_PASS, whole=False), key=lambda pair: pair[0])
        return ((number, (batch for _, batch in group)) for number, group in rows)

    def table(self) -> pa.Table:
        """All rows, in memory."""
        return pa.Table.from_batches(list(self.batches()), SCHEMA)

    def shards(self) -> PlannedShards:
        """The shards and their sizes; kept until the file changes."""
        file = info(self.path)
        if self._shards is None or self._shards[0] != file or file is None:
            self._shards = file, _counted(self.batches())
        return self._shards[1]

    def superseded(self) -> dict[int, Indices]:
        """The rows of replaced or forgotten images in each shard that has some, int32 ``(n,)``, by shard index."""
        shards = self.shards()
        wanted = shards.index[shards.images > shards.current]
        rows = self.by_shard(wanted) if len(wanted) else iter(())
        return {index: np.flatnonzero(each.column(3)).astype(np.int32) for index, each in rows}

    def replace(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Write ``batches`` in place of the rows there were; after a kill, either are there, all of them."""
        with (
            replacing(self.path) as path,
            open(path, "wb") as file,
            pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer,
        ):
            for batch in _in_batches(batches, ROWS):
                writer.write_batch(batch)


def read_manifest(path: AnyPath) -> pa.Table:
    """The manifest at ``path``, in memory; empty if there is none.

    Raises:
        RunError: it is damaged, or was written by a newer labeler.
    """
    return Manifest(path).table()


def unusable(path: AnyPath, cause: str) -> RunError:
    """The error to raise if the manifest cannot be used, so that nobody knows which images the records belong to."""
    return RunError(
        f"{path} {cause}, so records cannot be told apart; put back a copy of it, or label all again with --restart"
    )


def _rows(path: AnyPath) -> Iterator[pa.RecordBatch]:
    """The rows of the file, converted to this version and with its columns."""
    try:
        # Buffered ahead, the whole file would be in memory.
        with _at_hand(path) as source, pq.ParquetFile(source, pre_buffer=False) as file:
            check_extent(file.metadata, source.stat().st_size)
            stated = footer_version(file.metadata.metadata)
            version = check_version("images.parquet", 1 if stated is None else stated, path)
            is_old = version < VERSIONS["images.parquet"]
            there = [] if is_old else [name for name in SCHEMA.names if name in file.schema_arrow.names]
            # With threads, every one of them keeps memory of its own.
            for batch in file.iter_batches(batch_size=ROWS_READ, columns=there or None, use_threads=False):
                if is_old:
                    rows = [migrate("images.parquet", row, path, version) for row in batch.to_pylist()]
                    batch = pa.Table.from_pylist(rows).combine_chunks().to_batches()[0]
                if missing := [name for name in SCHEMA.names if name not in batch.schema.names]:
                    raise FormatError(f"{path}: the column {missing[0]!r} is missing")
                if gaps := [name for name in SCHEMA.names if batch.column(name).null_count]:
                    raise FormatError(f"{path}: the column {gaps[0]!r} has missing values")
                columns = [batch.column(field.name).cast(field.type) for field in SCHEMA]
                yield pa.record_batch(columns, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise FormatError(f"{path}: {str(error).splitlines()[0]}") from error


def _checked(batches: Iterable[pa.RecordBatch], where: AnyPath, with_ids: bool) -> Iterator[pa.RecordBatch]:
    last = 0
    for batch in batches:
        if with_ids:
            check_image_ids(batch.column(0))
        shards = batch.column(1).to_numpy()
        if len(shards) and (shards[0] < last or (np.diff(shards) < 0).any()):
            raise FormatError(f"{where}: its shards are out of order")
        last = shards[-1] if len(shards) else last
        yield batch


@contextmanager
def _at_hand(path: AnyPath) -> Iterator[Path]:
    """The file at ``path``, or a local copy if that is in a store."""
    if (local := as_local(path)) is not None:
        storage_of(path).for_seeking(path)  # refuses what is no regular file
        yield local
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder, "images.parquet")
        storage_of(path).download(path, copy)
        yield copy


def _in_batches(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """``batches``, those of fewer than ``rows`` rows joined."""
    waiting, count = [], 0
    for batch in batches:
        waiting.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield _joined(waiting)
            waiting, count = [], 0
    if count:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def _counted(batches: Iterable[pa.RecordBatch]) -> PlannedShards:
    counts = [np.empty((0, 3), np.int32)]  # of each shard in each batch: index, images, superseded
    for batch in batches:
        index, starts, images = np.unique(batch.column(1).to_numpy(), return_index=True, return_counts=True)
        superseded = np.add.reduceat(batch.column(3).to_numpy(zero_copy_only=False).astype(np.int32), starts)
        counts.append(np.stack([index, images, superseded], axis=1).astype(np.int32))
    every = np.concatenate(counts)
    index, starts = np.unique(every[:, 0], return_index=True)
    sums = np.add.reduceat(every, starts) if len(every) else every
    return PlannedShards(index, sums[:, 1], sums[:, 1] - sums[:, 2])


def _by(batches: Iterable[pa.RecordBatch], size: int, whole: bool = True) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each group of ``size`` shards, behind the number of the group.

    Args:
        whole: join the rows of a group that lie in several batches.
    """
    left = None
    for batch in batches:
        if left is not None:
            batch, left = _joined([left, batch]), None
        if not batch.num_rows:
            continue
        numbers = batch.column(1).to_numpy() // size
        starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        groups = [(int(numbers[start]), batch.slice(start, end - start)) for start, end in pairwise(starts)]
        if whole:
            left = groups.pop()[1]
        yield from groups
    if left is not None:
        yield int(left.column(1)[0].as_py()) // size, left


def first_of_each(table: pa.Table) -> pa.Table:
    """The current rows of a manifest with several labeling passes, one an image: the first."""
    current = table.filter(pc.invert(table.column("superseded")))
    codes = current.column("image_id").combine_chunks().dictionary_encode().indices.to_numpy()
    firsts = np.unique(codes, return_index=True)[1]
    return current.take(pa.array(np.sort(firsts)))
