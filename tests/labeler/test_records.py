from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask

from labeler.errors import FormatError
from labeler.masks import mask_to_rle
from labeler.records import SCHEMA, ImageRecord, Instance, read_records, write_records

RLE = mask_to_rle(np.eye(6, 8, dtype=bool))
RECORDS = [
    ImageRecord("a/ü b.jpg", 8, 6, "ff" * 16, tags=(("dog", 0.5),), instances=(
        Instance(2, "big dog", (0.5, 1.25, 6.0, 5.0), 0.75, 0.5, 0.25, 6, RLE),
        Instance(0, "cat", (0.0, 0.0, 8.0, 6.0), 0.5, 1.0, 1.0, 6, RLE),
    )),
    ImageRecord("nothing.png", 8, 6, "00" * 16),
    ImageRecord("torn.png", 0, 0, "", status="error", error="truncated"),
]  # fmt: skip


def test_round_trip(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", RECORDS)
    assert list(read_records([tmp_path / "a.parquet"])) == RECORDS
    assert list(tmp_path.iterdir()) == [tmp_path / "a.parquet"]


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", RECORDS)
    write_records(tmp_path / "b.parquet", RECORDS)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_pandas_alone_reads_them(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", RECORDS)
    table = pandas.read_parquet(tmp_path / "a.parquet")
    assert list(table["image_id"]) == [record.image_id for record in RECORDS]
    first = table["instances"][0][0]
    mask = coco_mask.decode({"size": [6, 8], "counts": first["rle_counts"]})
    assert np.array_equal(mask, np.eye(6, 8))
    assert list(first["box_xyxy"]) == [0.5, 1.25, 6.0, 5.0]


def test_duckdb_alone_reads_them(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", RECORDS)
    instances = f"(select unnest(instances) i from '{tmp_path}/*.parquet')"
    found = duckdb.sql(f"select i.prompt, i.area from {instances} order by i.score desc").fetchall()
    assert found == [("big dog", 6), ("cat", 6)]


def test_many_row_groups_keep_their_order(tmp_path: Path) -> None:
    records = [ImageRecord(f"{index:04d}.png", 8, 6, "") for index in range(700)]
    write_records(tmp_path / "a.parquet", records)
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3
    assert list(read_records([tmp_path / "a.parquet"])) == records


@pytest.mark.parametrize("kind", ["torn", "foreign", "other version", "missing"])
def test_what_is_no_record_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_records(path, RECORDS)
    if kind == "torn":
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "foreign":
        pandas.DataFrame({"a": [1]}).to_parquet(path)
    elif kind == "other version":
        pq.write_table(pq.read_table(path).replace_schema_metadata({"labeler.schema_version": "99"}), path)
    else:
        path.unlink()
    with pytest.raises(FormatError, match=r"a\.parquet"):
        list(read_records([path]))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    broken = ImageRecord("a.png", "wide", 6, "")  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"wide|int"):
        write_records(tmp_path / "a.parquet", [broken])
    assert list(tmp_path.iterdir()) == []


def test_joint_score() -> None:
    assert RECORDS[0].instances[0].joint_score == pytest.approx(0.375)
    assert SCHEMA.metadata[b"labeler.schema_version"] == b"1"
