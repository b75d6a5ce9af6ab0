"""Read a few columns of the current records of a run, without their instances; several files in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from labeler.errors import FormatError
from labeler.files.parallel import in_order
from labeler.record_checks import check_images
from labeler.record_files import read_columns

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

Superseded = Mapping[int, npt.NDArray[np.int32]]


def read_rows(
    files: Mapping[int, AnyPath],
    superseded: Superseded,
    columns: list[str],
    where: Callable[[pa.Table], pa.Array] | None = None,
) -> Iterator[dict[str, Any]]:
    """``image_id`` and ``columns`` of every image in record files, in shard order; arguments as in ``read_tables``."""
    return (row for rows in read_tables(files, superseded, columns, where) for row in rows.to_pylist())


def read_tables(
    files: Mapping[int, AnyPath],
    superseded: Superseded,
    columns: list[str],
    where: Callable[[pa.Table], pa.Array] | None = None,
) -> Iterator[pa.Table]:
    """As ``read_rows``, a table for each record file.

    Args:
        files: by shard index.
        superseded: rows to leave out, by shard.
        where: returns a mask of the rows to keep.

    Raises:
        FormatError: a file is damaged; or ``columns`` contains the sizes, and one is impossible.
    """

    def read(shard: int) -> pa.Table:
        try:
            rows = read_columns(files[shard], ["image_id", *columns])
            rows.validate(full=True)  # also that text is UTF-8
        except (pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            cause = str(error).splitlines()[0]
            raise FormatError(
                f"{files[shard]}: cannot be read as a record file ({cause}); run the label command again"
            ) from error
        if "width" in columns:
            try:
                check_images(rows)
            except ValueError as error:
                raise FormatError(f"{files[shard]}: not what a record file may hold: {error}") from error
        if shard in superseded:
            current = np.ones(len(rows), bool)
            current[superseded[shard]] = False
            rows = rows.filter(pa.array(current))
        return rows.filter(where(rows)) if where else rows

    return in_order(read, sorted(files))


def read_digests(rows: pa.RecordBatch, files: Mapping[int, AnyPath]) -> list[str]:
    """The digests of images, in order; empty for an image that could not be read.

    Args:
        rows: ``shard`` and ``row``, where the record of each image is; those of a shard follow each other.
    """
    shards, places = rows.column("shard").to_numpy(), rows.column("row").to_numpy()
    starts = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]
    groups = [places[start:end] for start, end in pairwise(starts)] if len(shards) else []
    read = in_order(lambda shard: read_columns(files[shard], ["digest"]), [int(shards[start]) for start in starts[:-1]])
    pairs = zip(read, groups, strict=True) if groups else ()
    return [digest for table, group in pairs for digest in table.column(0).take(pa.array(group)).to_pylist()]
