"""Plans night after night, in batches of a few rows, against a plan made of dicts and lists."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labeler.files import image_table
from labeler.files.image_table import ImageTable
from workflows.run import manifest as manifest_module
from workflows.run.manifest import Manifest, read_manifest
from workflows.run.planning import Changes, Planning
from workflows.run.shard_files import SHARDS_PER_PASS

Row = tuple[str, int, str, bool]
SIZE = 4


def expected(
    rows: list[Row], images: dict[str, str], changed: set[str], prune: bool, passes: list[int], given_up: set[str]
) -> list[Row]:
    """The rows of every pass: the old ones, marked and stamped, and then the images that lack a current one."""
    planned = []
    for number in sorted({row[1] // SHARDS_PER_PASS for row in rows} | set(passes)):
        old = [row for row in rows if row[1] // SHARDS_PER_PASS == number]
        kept = [
            (name, shard, images.get(name, stamp), was or name in changed or (prune and name not in images))
            for name, shard, stamp, was in old
        ]
        current = {row[0] for row in kept if not row[3]}
        new = [name for name in images if name not in current and name not in given_up - changed]
        first = old[-1][1] + 1 if old else number * SHARDS_PER_PASS
        planned += kept
        if number in passes:
            planned += [(name, first + place // SIZE, images[name], False) for place, name in enumerate(new)]
    return planned


@pytest.mark.parametrize("seed", range(4))
def test_nights(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_table, "ROWS", 8)
    monkeypatch.setattr(manifest_module, "ROWS", 16)
    monkeypatch.setattr(manifest_module, "ROWS_READ", 4)
    rng = random.Random(seed)
    manifest, rows = Manifest(tmp_path / "images.parquet"), list[Row]()
    for night in range(8):
        names = sorted(rng.sample([f"{number:03d}.jpg" for number in range(120)], 60 + night))
        images = {name: f"stamp {rng.randrange(3)}" for name in names}
        changed = set(rng.sample(names, rng.choice([0, 3])))
        prune, passes = rng.random() < 0.3, rng.choice([[0], [0], [1], [0, 1]])
        given_up = set(rng.sample(names, 5)) if max(passes) else set()
        table = ImageTable.of(pa.array(names), pa.array(list(images.values())))
        changes = Changes.none(table)
        changes.changed[:] = np.isin(names, sorted(changed))
        planning = Planning(table, SIZE, changes, prune, passes, (), given_up)
        planned = list(planning.batches(manifest))
        wanted = expected(rows, images, changed, prune, passes, given_up)
        assert any(differs for _, differs in planned) == (wanted != rows)
        gone = {
            number: {row[0] for row in rows if row[1] // SHARDS_PER_PASS == number and not row[3]} for number in (0, 1)
        }
        assert planning.forgotten == (max(len(ids - set(names)) for ids in gone.values()) if prune else 0)
        manifest.replace(batch for batch, _ in planning.batches(manifest))
        rows = [
            (row["image_id"], row["shard"], row["stamp"], row["superseded"]) for row in manifest.table().to_pylist()
        ]
        assert rows == wanted
        check_reading(manifest, rows)


def check_reading(manifest: Manifest, rows: list[Row]) -> None:
    shards = manifest.shards()
    index = sorted({row[1] for row in rows})
    assert shards.index.tolist() == index
    assert shards.images.tolist() == [sum(row[1] == each for row in rows) for each in index]
    assert shards.current.tolist() == [sum(row[1] == each and not row[3] for row in rows) for each in index]
    wanted = shards.index[::3]
    by_shard = {shard: batch.column(0).to_pylist() for shard, batch in manifest.by_shard(wanted)}
    assert by_shard == {each: [row[0] for row in rows if row[1] == each] for each in wanted.tolist()}
    superseded = {
        each: [place for place, row in enumerate(row for row in rows if row[1] == each) if row[3]] for each in index
    }
    found = {shard: places.tolist() for shard, places in manifest.superseded().items()}
    assert found == {shard: places for shard, places in superseded.items() if places}


def test_a_manifest_of_one_row_group_is_read_in_batches(tmp_path: Path) -> None:
    """As earlier versions wrote it."""
    path, count = tmp_path / "images.parquet", 3 * manifest_module.ROWS
    columns = [[f"{number:07d}.jpg" for number in range(count)], np.arange(count) // 64, ["s"] * count, [False] * count]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, manifest_module.SCHEMA, strict=True)]
    pq.write_table(pa.table(arrays, schema=manifest_module.SCHEMA), path, row_group_size=count)
    sizes = [batch.num_rows for batch in Manifest(path).batches()]
    assert sum(sizes) == count
    assert max(sizes) < 2 * manifest_module.ROWS
    assert read_manifest(path).equals(pq.read_table(path))
