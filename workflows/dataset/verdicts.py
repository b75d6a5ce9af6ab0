"""``run/verdicts.parquet``: the verdict on every instance, and whether the gate or a person decided it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from labeler.files.local import naming
from labeler.files.storage import read_bytes
from labeler.quality import Judgement, Verdict
from labeler.record_checks import read_table
from labeler.records import ImageRecord

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
        self._rows: list[dict[str, object]] = []

    def add(self, record: ImageRecord, judgements: Sequence[Judgement]) -> None:
        for index, (instance, judgement) in enumerate(zip(record.instances, judgements, strict=True)):
            self._rows.append(
                {
                    "image_id": record.image_id,
                    "instance": index,
                    "class_id": instance.class_id,
                    "joint_score": instance.joint_score,
                    "verdict": judgement.verdict,
                    "reason": judgement.reason,
                    "decided_by": "person" if judgement.by_hand else "gate",
                }
            )
        if len(self._rows) >= self.ROWS:
            self._flush()

    def _flush(self) -> None:
        with naming(self._path):
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self.SCHEMA))
        self._rows = []

    def __enter__(self) -> VerdictWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        with naming(self._path):
            self._writer.close()
