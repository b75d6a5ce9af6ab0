from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as coco_mask

from labeler.errors import FormatError, RunError
from labeler.files.storage import locate
from labeler.geometry.masks import mask_to_rle
from labeler.record_files import (
    ROWS_PER_GROUP,
    SCHEMA,
    TAIL_BYTES,
    fault_of_records,
    read_columns,
    read_record,
    read_records,
    write_records,
)
from labeler.records import ImageRecord, Instance
from tests.support.object_store import Bucket

RLE = mask_to_rle(np.eye(6, 8, dtype=bool))
RECORDS = [
    ImageRecord("a/ü b.jpg", 8, 6, "ff" * 16, tags=(("dog", 0.5),), instances=(
        Instance(2, "big dog", (0.5, 1.25, 6.0, 5.0), 0.75, 0.5, 0.25, 6, RLE, 0.5),
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


@pytest.mark.parametrize("kind", ["torn", "foreign", "newer", "missing"])
def test_what_is_no_record_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_records(path, RECORDS)
    if kind == "torn":
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "foreign":
        pandas.DataFrame({"a": [1]}).to_parquet(path)
    elif kind == "newer":
        pq.write_table(pq.read_table(path).replace_schema_metadata({"labeler.schema_version": "99"}), path)
    else:
        path.unlink()
    error = RunError if kind == "newer" else FormatError
    with pytest.raises(error, match=r"a\.parquet.*update labeler" if kind == "newer" else r"a\.parquet"):
        list(read_records([path]))


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    broken = ImageRecord("a.png", "wide", 6, "")  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"wide|int"):
        write_records(tmp_path / "a.parquet", [broken])
    assert list(tmp_path.iterdir()) == []


def test_files_of_version_1_have_one_view(tmp_path: Path) -> None:
    """They lack the agreement; columns other than the instances are read alone, and mixed files side by side."""
    path = tmp_path / "a.parquet"
    write_records(path, RECORDS)
    table = pq.read_table(path)
    rows = table.column("instances").to_pylist()
    old = [[{name: value for name, value in each.items() if name != "agreement"} for each in row] for row in rows]
    table = table.set_column(table.schema.get_field_index("instances"), "instances", pa.array(old))
    pq.write_table(table.replace_schema_metadata({"labeler.schema_version": "1"}), path)
    expected = [
        replace(record, instances=tuple(replace(i, agreement=1.0) for i in record.instances)) for record in RECORDS
    ]
    assert list(read_records([path])) == expected
    assert read_record(path, 0) == expected[0]
    assert read_columns(path, ["image_id", "width"]).to_pylist()[0] == {"image_id": "a/ü b.jpg", "width": 8}
    write_records(tmp_path / "b.parquet", RECORDS)
    assert list(read_records([path, tmp_path / "b.parquet"])) == expected + RECORDS
    assert len(pandas.read_parquet(path)) == 3


def test_joint_score() -> None:
    assert RECORDS[0].instances[0].joint_score == pytest.approx(0.375 * 0.5)
    assert RECORDS[0].instances[1].joint_score == 0.5
    assert SCHEMA.metadata[b"labeler.schema_version"] == b"2"


def test_records_in_a_store_are_the_same_bytes(bucket: Bucket, tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", RECORDS)
    places = [locate(f"{bucket.uri}/{index}.parquet") for index in range(9)]
    for place in places:
        write_records(place, RECORDS)
    assert bucket.get("8.parquet") == (tmp_path / "a.parquet").read_bytes()
    assert list(read_records(places)) == RECORDS * 9


def large(ids: list[str]) -> list[ImageRecord]:
    """Records of masks without a pattern: more than a tail."""
    masks = np.random.default_rng(0).integers(0, 2, (len(ids), 400, 400), dtype=bool)
    instances = [Instance(0, "x", (0, 0, 9, 9), 0.5, 0.5, 0.5, 9, mask_to_rle(mask)) for mask in masks]
    return [ImageRecord(i, 400, 400, "", instances=(each,)) for i, each in zip(ids, instances, strict=True)]


@pytest.fixture(params=["folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return (tmp_path if request.param == "folder" else locate(f"memory://{uuid.uuid4().hex}")) / "a.parquet"


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize(
    ("ids", "fits"),
    [
        (["a", "b", "c", "d"], True),
        (["a", "b", "c"], False),
        (["a", "b", "c", "e"], False),
        (["A", "b", "c", "d"], False),
        (["a", "b", "c", "d", "e"], False),
    ],
)
def test_records_of_other_images_are_told(place: Any, size: str, ids: list[str], fits: bool) -> None:
    records = large(["a", "b", "c", "d"])
    write_records(place, records if size == "large" else [ImageRecord(r.image_id, 2, 2, "") for r in records])
    assert (len(place.read_bytes()) > TAIL_BYTES) == (size == "large")
    fault = fault_of_records(place, pa.array(ids))
    assert (fault == "") == fits
    assert fits or "other images" in fault


def test_one_id_among_equal_ends_is_told_where_ids_are_read(place: Any) -> None:
    write_records(place, [ImageRecord(i, 2, 2, "") for i in "abcd"])
    assert "other images" in fault_of_records(place, pa.array(["a", "x", "c", "d"]))
    assert "other images" in fault_of_records(place, pa.array(["a", "c", "b", "d"]))


def test_many_row_groups_have_a_footer_larger_than_a_tail(place: Any) -> None:
    ids = [f"{index:05d}" for index in range(256 * 40)]
    write_records(place, [ImageRecord(i, 2, 2, "") for i in ids])
    assert fault_of_records(place, pa.array(ids)) == ""


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("keep", [0, 3, 4, 12, 0.3, 0.9, -1, -9])
def test_torn_records_are_told(place: Any, size: str, keep: float) -> None:
    records = large(["a", "b", "c", "d"])
    write_records(place, records if size == "large" else records[:1])
    data = place.read_bytes()
    place.write_bytes(data[: int(keep * len(data)) if 0 < keep < 1 else int(keep)])
    fault = fault_of_records(place, pa.array([r.image_id for r in records]))
    assert fault
    assert "\n" not in fault


def test_foreign_files_are_told_and_missing_ones_raise(place: Any) -> None:
    ids = pa.array(["a"])
    place.parent.mkdir(parents=True, exist_ok=True)
    for data in (b"notes", b"dear diary\n" * 10_000, bytes(100_000), b"PAR1" * 40_000):
        place.write_bytes(data)
        assert fault_of_records(place, ids)
    write_records(place, [ImageRecord("a", 2, 2, "")])
    table = pq.read_table(place.open("rb"))
    stated = {"labeler.schema_version": "1"}
    for other, fault in (
        (table.replace_schema_metadata(), "not a record file"),
        (table.replace_schema_metadata({"labeler.schema_version": "one"}), "not a version number"),
        (table.replace_schema_metadata({"labeler.schema_version": "0"}), "version 0 cannot be read"),
        (table.drop_columns("tags").replace_schema_metadata(stated), "'tags' is missing"),
        (table.set_column(1, "width", pa.array(["wide"])).replace_schema_metadata(stated), "'width' is missing or of"),
    ):
        with place.open("wb") as file:
            pq.write_table(other, file)
        assert fault in fault_of_records(place, ids)
    with place.open("wb") as file:
        pq.write_table(table.replace_schema_metadata({"labeler.schema_version": "3"}), file)
    with pytest.raises(RunError, match=r"a\.parquet was written by a newer labeler \(version 3, .*; update labeler$"):
        fault_of_records(place, ids)
    place.unlink()
    with pytest.raises(FileNotFoundError):
        fault_of_records(place, ids)


def test_one_record_is_read_by_its_row(tmp_path: Path) -> None:
    """Rows lie in groups; the last ones of a group and the first of the next are told apart."""
    records = [ImageRecord(f"{index}.png", 8, 8, "d") for index in range(2 * ROWS_PER_GROUP + 3)]
    path = tmp_path / "records.parquet"
    write_records(path, records)
    for row in (0, ROWS_PER_GROUP - 1, ROWS_PER_GROUP, 2 * ROWS_PER_GROUP, len(records) - 1):
        assert read_record(path, row) == records[row]
    with pytest.raises(FormatError, match=f"holds no record {len(records)}"):
        read_record(path, len(records))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FormatError, match="cannot be read"):
        read_record(path, 0)
