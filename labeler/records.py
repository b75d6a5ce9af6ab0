"""What labeling leaves behind: one record an image, as plain types and as Parquet.

Parquet files are written atomically and hold nothing that differs between two equal runs (no clock, no host), so
equal input gives equal bytes. Any Parquet reader can open them; ``pandas.read_parquet`` and DuckDB need nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.errors import FormatError
from labeler.files.storage import in_order, read_bytes, refuse_special, write_bytes
from labeler.geometry.masks import Rle
from labeler.migrations import VERSIONS, check_version, footer_version, migrate
from labeler.record_checks import check_records

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

Status = Literal["ok", "error"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One candidate object.

    Attributes:
        class_id: position in the ontology's class list.
        prompt: the prompt that found it; several prompts may name one class.
        box_xyxy: the detector's box, pixels of the EXIF-corrected image, origin top-left.
        score: the detector's score for the class, in [0, 1].
        mask_score: the segmenter's own estimate of the mask's IoU.
        stability: SAM's stability score, in [0, 1].
        area: pixels of the mask.
        rle: the mask, COCO compressed RLE.
    """

    class_id: int
    prompt: str
    box_xyxy: tuple[float, float, float, float]
    score: float
    mask_score: float
    stability: float
    area: int
    rle: Rle

    @property
    def joint_score(self) -> float:
        """Detector score × mask score: high only where both models agree."""
        return self.score * self.mask_score


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """All that is known of one image; also made for an image with no object, or one that cannot be read.

    Attributes:
        image_id: POSIX path below the input root.
        width, height: pixels after EXIF orientation; 0 if the image could not be read.
        digest: hexadecimal content digest of the file; empty if it could not be read.
        status: ``ok`` or ``error``.
        error: one line, empty when all went well.
        tags: (tag, score), as a tagger gave them.
        instances: every candidate above the run's floor, best detector score first.
    """

    image_id: str
    width: int
    height: int
    digest: str
    status: Status = "ok"
    error: str = ""
    tags: tuple[tuple[str, float], ...] = ()
    instances: tuple[Instance, ...] = field(default=())


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
ROWS_A_GROUP = 256  # bounds what a reader holds at once
FILES_AHEAD = 4  # read at once from a store
TAIL_BYTES = 2**16  # more than the footer of a usual record file


def write_records(path: AnyPath, records: Sequence[ImageRecord]) -> None:
    """Write ``records`` to ``path``; the file is there whole or not at all."""
    table = pa.Table.from_pylist([_to_row(record) for record in records], schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=ROWS_A_GROUP)
    write_bytes(path, buffer.getvalue())


def read_records(paths: Iterable[AnyPath]) -> Iterator[ImageRecord]:
    """The records of ``paths`` in order, a row group at a time.

    Raises:
        FormatError: a file is torn, or is no record file.
        RunError: a file was written by a newer labeler.
        OSError: a store cannot be reached.
    """
    paths = list(paths)
    for path, source in zip(paths, in_order(_source, paths, ahead=FILES_AHEAD), strict=True):
        try:
            with pq.ParquetFile(source) as file:
                version = _version(file, path)
                for group in file.iter_batches(batch_size=ROWS_A_GROUP):
                    yield from _records(path, group, version)
        except (pa.ArrowInvalid, OSError) as error:
            raise FormatError(
                f"{path}: cannot be read as a record file ({str(error).splitlines()[0]}); run the label command again"
            ) from error


def read_record(path: AnyPath, row: int) -> ImageRecord:
    """One record of a file, by its place in it; of the others no more than its row group is read.

    Raises:
        FormatError: the file is torn, or not so long.
        RunError: it was written by a newer labeler.
        OSError: it cannot be read.
    """
    left = row
    try:
        with pq.ParquetFile(_source(path)) as file:
            version = _version(file, path)
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if left < rows:
                    table = file.read_row_group(group).slice(left, 1).combine_chunks()
                    return next(_records(path, table.to_batches()[0], version))
                left -= rows
    except pa.ArrowInvalid as error:
        raise FormatError(f"{path}: cannot be read as a record file ({str(error).splitlines()[0]})") from error
    raise FormatError(f"{path}: holds no record {row}")


def _records(path: AnyPath, rows: pa.RecordBatch, version: int) -> Iterator[ImageRecord]:
    """Checked ``rows`` of the file at ``path``, as records."""
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
    """The columns ``names`` of a record file, in that order. A file of an older version is read whole for it.

    Raises:
        FormatError: it is no record file.
        RunError: it was written by a newer labeler.
        OSError: it cannot be read.
    """
    with pq.ParquetFile(_source(path)) as file:
        version = _version(file, path)
        if version == VERSIONS["records"]:
            return file.read(columns=names).select(names)
        rows = [_migrated(row, path, version) for row in file.read().to_pylist()]
        return pa.Table.from_pylist(rows, schema=SCHEMA).select(names)


def fault_of_records(path: AnyPath, image_ids: pa.Array | None = None) -> str:
    """Why the file at ``path`` does not hold the records of just these images, in order; empty if it does.

    Instances are not read, except those of an older version. Of a file in a store that is larger than ``TAIL_BYTES``
    nothing is read but the footer: there, another's file is told by the number of its images and the least and
    greatest of their ids.

    Args:
        image_ids: None for those of any images.

    Raises:
        RunError: it was written by a newer labeler.
        OSError: it cannot be read at all.
    """
    source: Any = path
    whole = True
    if isinstance(path, Path):
        refuse_special(path)
    else:
        data = read_bytes(path, -TAIL_BYTES)
        whole = len(data) < TAIL_BYTES
        if not whole and data.endswith(b"PAR1") and int.from_bytes(data[-8:-4], "little") + 8 > len(data):
            data, whole = read_bytes(path), True  # the footer itself is larger
        source = io.BytesIO(data)
    try:
        with pq.ParquetFile(source) as file:
            version = _version(file, path)
            if image_ids is None:
                return ""
            if file.metadata.num_rows == len(image_ids) and (
                read_columns(path, ["image_id"]).column(0).combine_chunks().equals(image_ids)
                if whole or version < VERSIONS["records"]
                else _least_and_greatest(file.metadata) == tuple(pc.min_max(image_ids).as_py().values())
            ):
                return ""
            return "it holds the records of other images"
    except FormatError as error:
        return str(error).removeprefix(f"{path}: ")
    except (pa.ArrowException, LookupError, TypeError, ValueError, AttributeError) as error:  # a made-up file
        return (str(error).splitlines() or [type(error).__name__])[0]
    except OSError as error:
        if error.errno:
            raise
        return str(error).splitlines()[0]  # what Arrow says of a torn footer


def _source(path: AnyPath) -> Any:
    if isinstance(path, Path):
        refuse_special(path)
        return path
    return io.BytesIO(read_bytes(path))


def _version(file: pq.ParquetFile, path: AnyPath) -> int:
    """The version that a record file states.

    Raises:
        FormatError: it is no record file, or lacks a column of its version.
        RunError: it was written by a newer labeler.
    """
    stated = footer_version(file.metadata.metadata)
    if stated is None:
        raise FormatError(f"{path}: not a record file")
    version = check_version("records", stated, path)
    if version == VERSIONS["records"]:
        found = file.schema_arrow
        for field_ in SCHEMA:
            if field_.name not in found.names or found.field(field_.name).type != field_.type:
                raise FormatError(f"{path}: damaged, the column {field_.name!r} is missing or of another type")
    return version


def _least_and_greatest(footer: pq.FileMetaData) -> tuple[str, str]:
    """Of the image ids."""
    found = [footer.row_group(group).column(0).statistics for group in range(footer.num_row_groups)]
    return min(each.min for each in found), max(each.max for each in found)


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
        )
        for item in row["instances"]
    )
    tags = tuple((item["tag"], item["score"]) for item in row["tags"])
    values = {name: row[name] for name in SCHEMA.names}
    return ImageRecord(**{**values, "tags": tags, "instances": instances})
