"""Read a few columns of the current records of a run, without their instances; several files in parallel."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from labeler.errors import FormatError
from labeler.files.parallel import in_order
from labeler.record_checks import check_images
from labeler.record_files import read_columns

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def read_rows(
    files: Mapping[int, AnyPath],
    superseded: Collection[tuple[int, str]],
    columns: list[str],
    where: Callable[[pa.Table], pa.Array] | None = None,
) -> Iterator[dict[str, Any]]:
    """``image_id`` and ``columns`` of every image in record files, in shard order; arguments as in ``read_tables``."""
    return (row for rows in read_tables(files, superseded, columns, where) for row in rows.to_pylist())


def read_tables(
    files: Mapping[int, AnyPath],
    superseded: Collection[tuple[int, str]],
    columns: list[str],
    where: Callable[[pa.Table], pa.Array] | None = None,
) -> Iterator[pa.Table]:
    """As ``read_rows``, a table for each record file.

    Args:
        files: by shard index.
        superseded: (shard, image id) of records to leave out.
        where: returns a mask of the rows to keep.

    Raises:
        FormatError: a file is damaged; or ``columns`` contains the sizes, and one is impossible.
    """
    replaced: dict[int, list[str]] = {}
    for shard, image_id in superseded:
        replaced.setdefault(shard, []).append(image_id)
    shards = sorted(files)

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
        return rows.filter(where(rows)) if where else rows

    for shard, rows in zip(shards, in_order(read, shards), strict=True):
        if shard in replaced:
            rows = rows.filter(pc.invert(pc.is_in(rows.column("image_id"), pa.array(replaced[shard], pa.string()))))
        yield rows


def with_digests(manifest: pa.Table, files: Mapping[int, AnyPath]) -> pa.Table:
    """``image_id`` and ``stamp`` of the current images in the record ``files``, with the ``digest`` from the record."""
    shards = pa.array(sorted(files), pa.int32())
    rows = manifest.filter(pc.is_in(manifest.column("shard"), shards)).select(["image_id", "stamp", "superseded"])
    # The records of a shard are in the order of the manifest.
    digests = pa.table({"digest": pa.array([], pa.string())})
    read_all = in_order(lambda shard: read_columns(files[shard], ["digest"]), shards.to_pylist())
    digests = pa.concat_tables([digests, *read_all], promote_options="permissive")
    rows = rows.append_column("digest", digests.column("digest"))
    return rows.filter(pc.invert(rows.column("superseded"))).drop_columns("superseded")
