"""Record files: the records of one shard as Parquet.

Files are written atomically and contain nothing that differs between two equal runs (no time, no host name), so the
same input gives the same bytes. Any Parquet reader opens them, such as ``pandas.read_parquet`` or DuckDB.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.errors import FormatError
from labeler.files.parallel import in_order
from labeler.files.storage import read_bytes, storage_of, write_bytes
from labeler.migrations import VERSIONS, check_version, footer_version, is_unchanged, migrate
from labeler.record_checks import check_extent, check_records
from labeler.records import ImageRecord, Instance

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

_INSTANCE = pa.struct(
    [
        pa.field("class_id", pa.int32(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("box_xyxy", pa.list_(pa.float32(), 4), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("mask_score", pa.float32(), nullable=False),
        pa.field("stability", pa.float32(), nullable=False),
        pa.field("area", pa.int64(), nullable=False),
        pa.field("rle_counts", pa.binary(), nullable=False),
        pa.field("agreement", pa.float32(), nullable=False),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("tags", pa.list_(pa.struct([("tag", pa.string()), ("score", pa.float32())])), nullable=False),
        pa.field("instances", pa.list_(_INSTANCE), nullable=False),
    ],
    metadata={"labeler.schema_version": str(VERSIONS["records"])},
)
ROWS_PER_GROUP = 256  # what a reader holds in memory
FILES_AHEAD = 4  # downloaded from a store in parallel
TAIL_BYTES = 2**16  # more than the footer of a typical record file


def write_records(path: AnyPath, records: Sequence[ImageRecord]) -> None:
    """Write ``records`` to ``path`` atomically."""
    table = pa.Table.from_pylist([_to_row(record) for record in records], schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=ROWS_PER_GROUP)
    write_bytes(path, buffer.getvalue())


def read_records(paths: Iterable[AnyPath]) -> Iterator[ImageRecord]:
    """The records of the files ``paths``, in order; one row group at a time is in memory.

    Raises:
        FormatError: a file is damaged or not a record file.
        RunError: a file was written by a newer labeler.
        OSError: a store cannot be reached.
    """
    paths = list(paths)
    for path, source in zip(paths, in_order(_source, paths, ahead=FILES_AHEAD), strict=True):
        try:
            with _opened(source, path) as file:
                version = _version(file, path)
                for group in file.iter_batches(batch_size=ROWS_PER_GROUP):
                    yield from _records(path, group, version)
        except OSError as error:
            raise _unreadable(path, error) from error


def read_record(path: AnyPath, row: int) -> ImageRecord:
    """The record at index ``row`` of a file; only its row group is read.

    Raises:
        FormatError: the file is damaged or has fewer rows.
        RunError: it was written by a newer labeler.
        OSError: it cannot be read.
    """
    left = row
    with _opened(_source(path), path) as file:
        version = _version(file, path)
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if left < rows:
                table = file.read_row_group(group).slice(left, 1).combine_chunks()
                return next(_records(path, table.to_batches()[0], version))
            left -= rows
    raise FormatError(f"{path}: holds no record {row}")


def _records(path: AnyPath, rows: pa.RecordBatch, version: int) -> Iterator[ImageRecord]:
    """``rows`` of the file at ``path`` as records, after checking them."""
    try:
        if version < VERSIONS["records"]:
            rows = pa.RecordBatch.from_pylist([_migrated(row, path, version) for row in rows.to_pylist()], SCHEMA)
        check_records(rows)
        contents = rows.to_pylist()
        records = [_from_row(row) for row in contents]
    except (KeyError, TypeError, ValueError, AttributeError, pa.ArrowException) as error:
        cause = f"no column {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise FormatError(f"{path}: not what a record file may hold: {cause}") from error
    yield from records


def read_columns(path: AnyPath, names: list[str]) -> pa.Table:
    """The columns ``names`` of a record file, in that order.

    A file of an older version is read completely if a column has changed since.

    Raises:
        FormatError: it is not a record file.
        RunError: it was written by a newer labeler.
        OSError: it cannot be read.
    """
    with _opened(_source(path), path) as file:
        version = _version(file, path)
        if all(is_unchanged("records", version, name) for name in names):
            return file.read(columns=names).select(names)
        rows = [_migrated(row, path, version) for row in file.read().to_pylist()]
        return pa.Table.from_pylist(rows, schema=SCHEMA).select(names)


def fault_of_records(path: AnyPath, image_ids: pa.Array | None = None) -> str:
    """Why the file at ``path`` is not the record file of exactly these images in this order; empty if it is.

    Instances are not read. If the file is in a store and larger than ``TAIL_BYTES``, only its footer is read, and only
    the number of images and the smallest and largest id are compared.

    Args:
        image_ids: None accepts the records of any images.

    Raises:
        RunError: it was written by a newer labeler.
        OSError: it cannot be read at all.
    """
    if storage_of(path).is_remote:
        data = read_bytes(path, -TAIL_BYTES)
        whole = len(data) < TAIL_BYTES
        if not whole and data.endswith(b"PAR1") and int.from_bytes(data[-8:-4], "little") + 8 > len(data):
            data, whole = read_bytes(path), True  # the footer is larger than TAIL_BYTES
        source: Any = io.BytesIO(data)
    else:
        source, whole = _source(path), True
    try:
        with pq.ParquetFile(source) as file:
            version = _version(file, path)
            if image_ids is None:
                return ""
            if file.metadata.num_rows == len(image_ids) and (
                read_columns(path, ["image_id"]).column(0).combine_chunks().equals(image_ids)
                if whole or not is_unchanged("records", version, "image_id")
                else _least_and_greatest(file.metadata) == tuple(pc.min_max(image_ids).as_py().values())
            ):
                return ""
            return "it holds the records of other images"
    except FormatError as error:
        return str(error).removeprefix(f"{path}: ")
    except (pa.ArrowException, LookupError, TypeError, ValueError, AttributeError) as error:  # a forged file
        return (str(error).splitlines() or [type(error).__name__])[0]
    except OSError as error:
        if error.errno:
            raise
        return str(error).splitlines()[0]  # Arrow's message for a torn footer


@contextmanager
def _opened(source: Any, path: AnyPath) -> Iterator[pq.ParquetFile]:
    """The record file ``source``. What Arrow says while it is read becomes a ``FormatError`` that names ``path``."""
    try:
        with pq.ParquetFile(source, pre_buffer=False) as file:  # buffered ahead, the whole file would be in memory
            size = source.stat().st_size if isinstance(source, Path) else source.getbuffer().nbytes
            check_extent(file.metadata, size)
            yield file
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _unreadable(path, error) from error


def _unreadable(path: AnyPath, error: BaseException) -> FormatError:
    cause = (str(error).splitlines() or [type(error).__name__])[0]
    return FormatError(f"{path}: cannot be read as a record file ({cause}); run the label command again")


def _source(path: AnyPath) -> Any:
    return storage_of(path).for_seeking(path)


def _version(file: pq.ParquetFile, path: AnyPath) -> int:
    """The version that a record file states.

    Raises:
        FormatError: it is not a record file, or lacks a column of its version.
        RunError: it was written by a newer labeler.
    """
    stated = footer_version(file.metadata.metadata)
    if stated is None:
        raise FormatError(f"{path}: not a record file")
    version = check_version("records", stated, path)
    schema = file.schema_arrow
    for field_ in SCHEMA:
        is_there = field_.name in schema.names and schema.field(field_.name).type == field_.type
        if not is_there and is_unchanged("records", version, field_.name):
            raise FormatError(f"{path}: damaged, the column {field_.name!r} is missing or of another type")
    return version


def _least_and_greatest(footer: pq.FileMetaData) -> tuple[str, str]:
    """The smallest and the largest image id, from the statistics in the footer."""
    groups = [footer.row_group(group).column(0).statistics for group in range(footer.num_row_groups)]
    return min(each.min for each in groups), max(each.max for each in groups)


def _to_row(record: ImageRecord) -> dict[str, Any]:
    return {
        "image_id": record.image_id,
        "width": record.width,
        "height": record.height,
        "digest": record.digest,
        "status": record.status,
        "error": record.error,
        "tags": [{"tag": tag, "score": score} for tag, score in record.tags],
        "instances": [
            {
                "class_id": instance.class_id,
                "prompt": instance.prompt,
                "box_xyxy": instance.box_xyxy,
                "score": instance.score,
                "mask_score": instance.mask_score,
                "stability": instance.stability,
                "area": instance.area,
                "rle_counts": instance.rle["counts"],
                "agreement": instance.agreement,
            }
            for instance in record.instances
        ],
    }


def _migrated(row: dict[str, Any], path: AnyPath, version: int) -> dict[str, Any]:
    row = migrate("records", row, path, version)
    if missing := [name for name in SCHEMA.names if name not in row]:
        raise FormatError(f"{path}: damaged, the column {missing[0]!r} is missing")
    return row


def _from_row(row: dict[str, Any]) -> ImageRecord:
    size = [row["height"], row["width"]]
    instances = tuple(
        Instance(
            class_id=item["class_id"],
            prompt=item["prompt"],
            box_xyxy=tuple(item["box_xyxy"]),
            score=item["score"],
            mask_score=item["mask_score"],
            stability=item["stability"],
            area=item["area"],
            rle={"size": size, "counts": item["rle_counts"]},
            agreement=item["agreement"],
        )
        for item in row["instances"]
    )
    tags = tuple((item["tag"], item["score"]) for item in row["tags"])
    values = {name: row[name] for name in SCHEMA.names}
    return ImageRecord(**{**values, "tags": tags, "instances": instances})
