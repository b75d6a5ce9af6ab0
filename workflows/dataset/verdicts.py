"""``run/verdicts.parquet``: the verdict on every instance, and whether the gate or a person decided it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.files.local import naming
from labeler.files.storage import read_bytes
from labeler.quality import Verdict
from labeler.record_checks import read_table

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


logger = logging.getLogger(__name__)


class SavedVerdict(NamedTuple):
    """One row of the file, for one instance; ``joint_score`` is a float32."""

    class_id: int
    joint_score: float
    verdict: Verdict


def read_verdicts(path: AnyPath) -> dict[str, list[SavedVerdict]]:
    """The verdicts by image id, in the order of the record's instances; empty if there is no such file."""
    verdicts: dict[str, list[SavedVerdict]] = {}
    if (table := _columns(path, ["image_id", *SavedVerdict._fields])) is not None:
        for image_id, *row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            verdicts.setdefault(image_id, []).append(SavedVerdict(*row))
    return verdicts


def images_with_verdicts(path: AnyPath) -> pa.Array:
    """The ids of the images with an instance; empty if there is no such file."""
    table = _columns(path, ["image_id"])
    return pa.array([], pa.string()) if table is None else table.column("image_id").unique()


def _columns(path: AnyPath, names: list[str]) -> pa.Table | None:
    try:
        return read_table(read_bytes(path), names).select(names)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        cause = str(error).splitlines()[0]
        logger.warning("%s is damaged (%s); files of the dataset may be treated as edited", path, cause)
        return None


class VerdictWriter:
    """Writes a row per instance: first those of the record, then those that people added."""

    SCHEMA = pa.schema(
        [
            ("image_id", pa.string()),
            ("instance", pa.int32()),
            ("class_id", pa.int32()),
            ("joint_score", pa.float32()),
            ("verdict", pa.string()),
            ("reason", pa.string()),
            ("decided_by", pa.string()),  # "person", else "gate"
        ]
    )
    ROWS = 10_000

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._writer = pq.ParquetWriter(path, self.SCHEMA, compression="zstd")
        self._waiting: list[pa.Table] = []

    def add(self, images: pa.Table) -> None:
        """Add the instances of ``images``, which have the columns of ``workflows.dataset.judging.SCHEMA``."""
        rows, ends = _instances(images, self.SCHEMA), np.cumsum(_counts(images))
        done = 0
        while len(rows) - done + (waiting := sum(map(len, self._waiting))) >= self.ROWS:
            # A row group ends with the image that fills it.
            end = int(ends[np.searchsorted(ends, done + self.ROWS - waiting)])
            self._waiting.append(rows.slice(done, end - done))
            self._flush()
            done = end
        self._waiting.append(rows.slice(done))

    def _flush(self) -> None:
        rows = pa.concat_tables([self.SCHEMA.empty_table(), *self._waiting]).combine_chunks()
        with naming(self._path):
            self._writer.write_table(rows)
        self._waiting = []

    def __enter__(self) -> VerdictWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        with naming(self._path):
            self._writer.close()


def _counts(images: pa.Table) -> npt.NDArray[np.int64]:
    """The number of instances of each image."""
    lengths = images.column("class_id").combine_chunks().value_lengths()
    return np.asarray(lengths).astype(np.int64)


def _instances(images: pa.Table, schema: pa.Schema) -> pa.Table:
    counts = _counts(images)
    image = np.repeat(np.arange(len(counts)), counts)
    flat = {name: images.column(name).combine_chunks().flatten() for name in ("class_id", "joint_score", "verdict")}
    by_hand = images.column("by_hand").combine_chunks().flatten()
    columns = {
        "image_id": images.column("image_id").combine_chunks().take(pa.array(image)),
        "instance": np.arange(len(image)) - np.repeat(np.cumsum(counts) - counts, counts),
        **flat,
        "reason": images.column("reason").combine_chunks().flatten(),
        "decided_by": pc.if_else(by_hand, "person", "gate"),
    }
    return pa.table(columns).cast(schema)
