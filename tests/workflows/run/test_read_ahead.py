"""How many images are in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from labeler.files.image_config import ImageConfig
from workflows.run.batch_size import BatchSize
from workflows.run.read_ahead import BYTES_PER_PIXEL, Batch, read_ahead
from workflows.run.shard import Shard

SIDE = 400
MB_EACH = SIDE * SIDE * BYTES_PER_PIXEL / 1e6  # 1.12


def batches(folder: Path, names: list[str], megabytes: int) -> Iterator[Batch | None]:
    shard = Shard(0, tuple(names), folder / "run" / "records" / "000000.parquet")
    with ThreadPoolExecutor(2) as readers:
        yield from read_ahead([shard], folder, BatchSize(8), readers, ImageConfig(read_ahead=megabytes))


@pytest.mark.parametrize(("megabytes", "sizes"), [(100, [8, 2]), (10, [4, 4, 2]), (5, [2] * 5), (1, [1] * 10)])
def test_batches_keep_within_the_bound(tmp_path: Path, megabytes: int, sizes: list[int]) -> None:
    names = [f"{index}.png" for index in range(10)]
    for name in names:
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / name)
    seen: list[Batch] = [batch for batch in batches(tmp_path, names, megabytes) if batch]
    assert [len(batch.decoding) for batch in seen] == sizes
    assert [future.result().image_id for batch in seen for future in batch.decoding] == names
    assert [batch.is_last for batch in seen] == [False] * (len(sizes) - 1) + [True]
    assert all(batch.memory <= max(megabytes / 2, MB_EACH) * 1e6 for batch in seen)


def test_nothing_more_is_read_than_the_bound_allows(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(10)]
    for name in names:
        Image.new("RGB", (SIDE, SIDE)).save(tmp_path / name)
    opened = batches(tmp_path, names, 3)  # 2.68 images
    first = next(opened)
    assert first is not None
    for name in names[2:]:  # of those ahead, only one may have been read
        (tmp_path / name).unlink()
    errors = [future.result().error for batch in opened if batch for future in batch.decoding]
    assert errors == ["", *["no such file or directory"] * 8]
