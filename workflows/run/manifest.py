"""The manifest: the images of a run, and the shard of each.

    OUT/run/images.parquet     image_id, shard, stamp (size and times of the file), superseded

New images are assigned to new shards, after the existing ones. So are changed images: their old rows and records stay,
marked as superseded. The rows of a shard are in the order of its records. Every labeling pass has shards, and so rows,
of its own.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.errors import FormatError, RunError
from labeler.files.image_ids import check_image_ids
from labeler.files.storage import read_bytes, write_bytes
from labeler.migrations import VERSIONS, check_version, footer_version, migrate
from labeler.record_checks import read_table
from workflows.run.shard_files import MOST_PASSES, SHARDS_PER_PASS, pass_of

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("superseded", pa.bool_(), nullable=False),
    ]
)


def read_manifest(path: AnyPath) -> pa.Table | None:
    """The manifest at ``path``, with exactly the columns of this version; None if there is none.

    Raises:
        RunError: it is damaged, or was written by a newer labeler.
    """
    try:
        return _table(read_bytes(path), path)
    except FileNotFoundError:
        return None
    except FormatError as error:
        raise unusable(path, f"is damaged ({str(error).removeprefix(f'{path}: ')})") from error
    except ValueError as error:
        raise RunError(f"{path}: {error}; do not use this run folder unless you know who made it") from None


def unusable(path: AnyPath, cause: str) -> RunError:
    """The error to raise if the manifest cannot be used, so that nobody knows which images the records belong to."""
    return RunError(
        f"{path} {cause}, so records cannot be told apart; put back a copy of it, or label all again with --restart"
    )


def _table(data: bytes, where: AnyPath) -> pa.Table:
    try:
        table = read_table(data)
        stated = footer_version(table.schema.metadata)
        version = check_version("images.parquet", 1 if stated is None else stated, where)
        if version < VERSIONS["images.parquet"]:
            rows = [migrate("images.parquet", row, where, version) for row in table.to_pylist()]
            table = pa.Table.from_pylist(rows)
        if missing := [name for name in SCHEMA.names if name not in table.column_names]:
            raise FormatError(f"{where}: the column {missing[0]!r} is missing")
        table = table.select(SCHEMA.names)
        if gaps := [name for name in SCHEMA.names if table.column(name).null_count]:
            raise FormatError(f"{where}: the column {gaps[0]!r} has missing values")
        table = table.cast(SCHEMA)
        check_image_ids(table.column("image_id"))
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{where}: {str(error).splitlines()[0]}") from error
    shards = table.column("shard").to_numpy()
    if len(shards) and (shards[0] < 0 or (np.diff(shards) < 0).any()):
        raise FormatError(f"{where}: its shards are out of order")
    return table


def write_manifest(path: AnyPath, manifest: pa.Table) -> None:
    buffer = io.BytesIO()
    pq.write_table(manifest, buffer)
    write_bytes(path, buffer.getvalue())


def with_all_images(
    manifest: pa.Table,
    image_ids: pa.Array,
    stamps: pa.Array,
    shard_size: int,
    changed: Collection[str],
    prune: bool,
    passes: Collection[int] = (0,),
    retried: Collection[str] = (),
    given_up: Collection[str] = (),
) -> tuple[pa.Table, int]:
    """The manifest for an input with the images ``image_ids``, and the number of images that were forgotten.

    Args:
        changed: known images that every pass is to label again.
        prune: forget images that are not in the input.
        passes: the labeling passes that get new images.
        retried: known images that those of ``passes`` are to label again.
        given_up: images that no other pass gets.

    Raises:
        ValueError: there are too many passes, or too many shards in one.
    """
    of_row = manifest.column("shard").to_numpy() // SHARDS_PER_PASS
    tables, forgotten = [], 0
    for number in sorted({*of_row.tolist(), *passes}):
        if number >= MOST_PASSES:
            raise ValueError("too many labeling passes; label into another folder, with all classes at once")
        runs = number in passes
        planned, gone = _with_images(
            manifest.filter(pa.array(of_row == number)),
            image_ids,
            stamps,
            shard_size,
            {*changed, *retried} if runs else changed,
            prune,
            number * SHARDS_PER_PASS,
            pa.array(sorted(given_up), pa.string()) if runs else image_ids,
        )
        if len(planned) and pass_of(pc.max(planned.column("shard")).as_py()) != number:
            raise ValueError("too many shards; label into another folder with a larger --shard-size")
        tables.append(planned)
        forgotten = max(forgotten, gone)
    return pa.concat_tables(tables), forgotten


def _with_images(
    manifest: pa.Table,
    image_ids: pa.Array,
    stamps: pa.Array,
    shard_size: int,
    changed: Collection[str],
    prune: bool,
    first_shard: int,
    left_out: pa.Array,
) -> tuple[pa.Table, int]:
    """The manifest of one labeling pass for an input with the images ``image_ids``, and the number of forgotten images.

    Args:
        changed: known images that are assigned to a new shard.
        prune: forget images that are not in the input.
        first_shard: the index of the pass's first shard.
        left_out: string array, images that are not assigned to any shard.
    """
    old_ids, superseded = manifest.column("image_id"), manifest.column("superseded")
    index = pc.index_in(old_ids, image_ids)
    gone = pc.and_(pc.invert(superseded), pc.is_null(index)) if prune else pa.nulls(0)
    forgotten = pc.sum(gone).as_py() or 0 if prune else 0
    superseded = pc.or_(superseded, pc.is_in(old_ids, pa.array(list(changed), pa.string())))
    if prune:
        superseded = pc.or_(superseded, gone)
    current = old_ids.filter(pc.invert(superseded))
    new = pc.invert(pc.or_(pc.is_in(image_ids, current.combine_chunks()), pc.is_in(image_ids, left_out)))
    first = first_shard if not len(manifest) else pc.max(manifest.column("shard")).as_py() + 1
    count = pc.sum(new).as_py() or 0
    shards = pa.array(first + np.arange(count) // shard_size, pa.int32())
    added = [image_ids.filter(new), shards, stamps.filter(new), pa.array(np.zeros(count, bool))]
    known = pc.coalesce(pc.take(stamps, index), manifest.column("stamp"))
    kept = [old_ids, manifest.column("shard"), known, superseded]
    return pa.concat_tables([pa.table(kept, schema=SCHEMA), pa.table(added, schema=SCHEMA)]), int(forgotten)


def with_stamps(manifest: pa.Table, image_ids: pa.Array, stamps: pa.Array) -> pa.Table:
    """The manifest with new ``stamps`` for the images ``image_ids``."""
    taken = pc.take(stamps, pc.index_in(manifest.column("image_id"), image_ids))
    taken = pc.if_else(manifest.column("superseded"), None, taken)
    column = manifest.schema.get_field_index("stamp")
    renewed = pc.coalesce(taken, manifest.column("stamp"))
    return manifest.set_column(column, manifest.schema.field(column), renewed)


def ids_by_shard(manifest: pa.Table) -> dict[int, pa.Array]:
    """The image ids of each shard, by shard index."""
    indices, starts = np.unique(manifest.column("shard").to_numpy(), return_index=True)
    ids = manifest.column("image_id").combine_chunks()
    ends = np.append(starts, len(ids))[1:]
    return {index: ids[start:end] for index, start, end in zip(indices.tolist(), starts, ends, strict=True)}


def superseded_images(manifest: pa.Table) -> set[tuple[int, str]]:
    """(shard, image id) of the records that were replaced by newer ones, or forgotten."""
    old = manifest.filter(manifest.column("superseded"))
    return set(zip(old.column("shard").to_pylist(), old.column("image_id").to_pylist(), strict=True))


def first_of_each(manifest: pa.Table) -> pa.Table:
    """The current rows of ``manifest``, one an image: of several labeling passes, the first one's."""
    current = manifest.filter(pc.invert(manifest.column("superseded")))
    if not len(current) or pc.max(current.column("shard")).as_py() < SHARDS_PER_PASS:
        return current
    codes = current.column("image_id").combine_chunks().dictionary_encode().indices.to_numpy()
    firsts = np.unique(codes, return_index=True)[1]
    return current.take(pa.array(np.sort(firsts)))
