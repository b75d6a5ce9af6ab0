"""What labeling leaves behind: one record an image, as plain types and as Parquet.

Parquet files are written atomically and hold nothing that differs between two equal runs (no clock, no host), so
equal input gives equal bytes. Any Parquet reader can open them; ``pandas.read_parquet`` and DuckDB need nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from labeler.errors import FormatError
from labeler.masks import Rle

SCHEMA_VERSION = "1"
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
    metadata={"labeler.schema_version": SCHEMA_VERSION},
)
ROWS_A_GROUP = 256  # bounds what a reader holds at once


def write_records(path: Path, records: Sequence[ImageRecord]) -> None:
    """Write ``records`` to ``path``; the file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        table = pa.Table.from_pylist([_to_row(record) for record in records], schema=SCHEMA)
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_A_GROUP)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_records(paths: Iterable[Path]) -> Iterator[ImageRecord]:
    """The records of ``paths`` in order, a row group at a time.

    Raises:
        FormatError: a file is torn, or is not a record file of this version.
    """
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                version = (file.schema_arrow.metadata or {}).get(b"labeler.schema_version", b"").decode()
                if version != SCHEMA_VERSION:
                    raise FormatError(
                        f"{path}: not a record file of version {SCHEMA_VERSION} (found {version or 'none'}); "
                        "label the images again into a new folder"
                    )
                for group in file.iter_batches(batch_size=ROWS_A_GROUP):
                    yield from map(_from_row, group.to_pylist())
        except (pa.ArrowInvalid, OSError) as error:
            raise FormatError(
                f"{path}: cannot be read as a record file ({str(error).splitlines()[0]}); delete it and label again"
            ) from error


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
    return ImageRecord(**{**row, "tags": tags, "instances": instances})
