"""Reasons to refuse a record file; ``rle_runs``, which checks one mask, is the reference for many masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labeler.errors import FormatError
from labeler.geometry.masks import Rle, mask_to_rle, rle_area, rle_runs
from labeler.record_checks import first_invalid_rle
from labeler.record_files import SCHEMA, read_record, read_records, write_records
from labeler.records import ImageRecord, Instance


def is_whole(rle: Rle) -> bool:
    try:
        rle_runs(rle)
    except ValueError:
        return False
    return True


def test_the_first_invalid_mask_is_found() -> None:
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        rles: list[Rle] = []
        for _ in range(rng.integers(1, 8)):
            height, width = rng.integers(1, 30, 2).tolist()
            counts = bytearray(mask_to_rle(rng.random((height, width)) < rng.choice([0, 0.1, 0.5, 1]))["counts"])
            match rng.integers(24):
                case 0:
                    counts[rng.integers(len(counts))] = rng.integers(256)
                case 1:
                    counts.pop()
                case 2:
                    counts.append(rng.integers(48, 112))
                case 3:
                    counts = bytearray(rng.integers(48, 112, rng.integers(12)).astype(np.uint8).tobytes())
                case 4:
                    height += 1
            rles.append({"size": [height, width], "counts": bytes(counts)})
        expected = next((place for place, rle in enumerate(rles) if not is_whole(rle)), None)
        pixels = np.array([np.prod(rle["size"]) for rle in rles])
        assert first_invalid_rle([rle["counts"] for rle in rles], pixels) == expected
        refused += expected is not None
    assert 100 < refused < 300


def test_masks_beyond_one_chunk() -> None:
    noise = mask_to_rle(np.random.default_rng(2).random((200, 200)) < 0.5)["counts"]
    pixels = np.full(9, 40_000)
    assert len(noise) > 2**14, "several chunks"
    assert first_invalid_rle([noise] * 9, pixels) is None
    assert first_invalid_rle([*[noise] * 7, noise[:-1], noise], pixels) == 7


RLE = mask_to_rle(np.eye(6, 8, dtype=bool))
INSTANCE = Instance(0, "dog", (0.0, 0.0, 6.0, 6.0), 0.5, 0.5, 0.5, rle_area(RLE), RLE)
RECORD = ImageRecord("sub/a.png", 8, 6, "d", instances=(INSTANCE,))


def rows(**changes: Any) -> dict[str, Any]:
    """A row as Parquet stores it, with changes to its columns or to its instances."""
    instance = {
        "class_id": 0, "prompt": "dog", "box_xyxy": [0, 0, 6, 6], "score": 0.5, "mask_score": 0.5, "stability": 0.5,
        "area": 6, "rle_counts": RLE["counts"], "agreement": 1.0,
    }  # fmt: skip
    row = {"image_id": "a.png", "width": 8, "height": 6, "digest": "d", "status": "ok", "error": "", "tags": []}
    row["instances"] = [instance | {key: value for key, value in changes.items() if key in instance}]
    return row | {key: value for key, value in changes.items() if key not in instance}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_id": "../b.png"}, "'../b.png' is not a relative path"),
        ({"image_id": "/etc/passwd"}, "'/etc/passwd' is not a relative path"),
        ({"width": 0}, "image 'a.png': a size of 0 x 6"),
        ({"width": 0, "height": 0}, "image 'a.png': a size of 0 x 0"),
        ({"width": 0, "height": 0, "instances": []}, "image 'a.png': a size of 0 x 0"),
        ({"width": 0, "height": 0, "status": "error"}, "an impossible area"),
        ({"height": -6}, "a size of 8 x -6"),
        ({"width": 2**31 - 1, "height": 2**31 - 1}, "a size of 2147483647 x 2147483647"),
        ({"width": 6, "height": 6}, "image 'a.png': the RLE counts of an instance do not fit"),
        ({"rle_counts": b""}, "do not fit"),
        ({"rle_counts": RLE["counts"][:-1]}, "do not fit"),
        ({"rle_counts": b"\xff" * 9}, "do not fit"),
        ({"area": -1}, "an impossible area"),
        ({"area": 2**62}, "an impossible area"),
        ({"class_id": -1}, "a negative class id"),
        ({"box_xyxy": [0, 0, float("nan"), 6]}, "a box that is not finite"),
        ({"box_xyxy": [0, 0, float("inf"), 6]}, "a box that is not finite"),
    ],
)
def test_records_that_are_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "000000.parquet"
    pq.write_table(pa.Table.from_pylist([rows(image_id="first.png"), rows(**changes)], schema=SCHEMA), path)
    for read in (lambda: list(read_records([path])), lambda: read_record(path, 1)):
        with pytest.raises(FormatError) as raised:
            read()
        (line,) = str(raised.value).splitlines()
        assert says in line
        assert str(path) in line


def test_other_columns_and_invalid_text_are_refused_in_one_line(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([rows()], schema=SCHEMA)
    no_utf8 = pa.array([b"\xff\xfe.png"]).view(pa.string())
    broken = {
        "no column": table.drop_columns("instances"),
        "text": table.set_column(1, "width", pa.array(["8"])),
        "null": table.set_column(1, "width", pa.array([None], pa.int32())),
        "no list": table.set_column(7, "instances", pa.array([1])),
        "no UTF-8": table.set_column(0, "image_id", no_utf8),
    }
    for name, content in broken.items():
        path = tmp_path / f"{name}.parquet"
        pq.write_table(content.replace_schema_metadata(SCHEMA.metadata), path)
        with pytest.raises(FormatError, match=r"not what a record file may hold|cannot be read|damaged") as raised:
            list(read_records([path]))
        assert len(str(raised.value).splitlines()) == 1, name


def test_valid_records_pass(tmp_path: Path) -> None:
    records = [
        replace(RECORD, image_id=f"sub/{number}.png", instances=(INSTANCE,) * (number % 4)) for number in range(600)
    ]
    records += [
        ImageRecord("torn.png", 0, 0, "", "error", "torn"),
        ImageRecord("failed.png", 8, 6, "d", "error", "labeling failed"),
        replace(
            RECORD,
            image_id="empty.png",
            instances=(replace(INSTANCE, rle=mask_to_rle(np.zeros((6, 8), bool)), area=0),),
        ),
    ]
    write_records(tmp_path / "a.parquet", records)
    assert list(read_records([tmp_path / "a.parquet"])) == records
    assert read_record(tmp_path / "a.parquet", 599) == records[599]
