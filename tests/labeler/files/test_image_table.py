"""Images on disk: sorted as Python sorts text, looked up as in a dict. Batches are small, so that there are several."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pytest

from labeler.files import image_table, sorting
from labeler.files.image_table import ImageTable
from labeler.files.listing import Found
from labeler.files.sorting import in_order_of_id, sorted_images


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (image_table, sorting):
        monkeypatch.setattr(module, "ROWS", 16)
        monkeypatch.setattr(module, "IN_MEMORY", 1000)


def some(seed: int, folders: str) -> list[Found]:
    """Images of folders whose names sort before, at and after the slash, with repeats; told apart by their stamp."""
    rng = random.Random(seed)
    names = [f"{rng.choice(folders)}{rng.choice('/-0é😀')}{rng.randrange(90)}.jpg" for _ in range(400)]
    return [(name, f"stamp of {name}") for name in names]


@pytest.mark.parametrize("order", ["shuffled", "sorted", "reversed", "folder after folder"])
def test_images_in_order(order: str) -> None:
    found = some(1, "ab-é")
    given = {
        "shuffled": found,
        "sorted": sorted(found),
        "reversed": sorted(found, reverse=True),
        "folder after folder": sorted(found, key=lambda image: image[0][:1], reverse=True),
    }[order]
    rows = [row for batch in in_order_of_id(given) for row in batch.to_pylist()]
    assert [(row["image_id"], row["stamp"]) for row in rows] == sorted(set(found))


def test_no_images() -> None:
    table = ImageTable(in_order_of_id(()))
    assert (len(table), table.ids(), table.held(["a"])) == (0, [], [])


@pytest.mark.parametrize("is_sorted", [True, False])
def test_look_up(is_sorted: bool) -> None:
    images = dict(some(2, "ab"))
    order = sorted(images) if is_sorted else list(images)
    table = ImageTable.of(pa.array(order), pa.array([images[image_id] for image_id in order]))
    assert len(table) == len(images) > 100
    wanted = [image_id for image_id, _ in some(3, "bc")]
    positions, stamps = table.look_up(pa.array(wanted))
    assert positions.tolist() == [order.index(image_id) if image_id in images else -1 for image_id in wanted]
    assert stamps.to_pylist() == [images.get(image_id) for image_id in wanted]
    assert table.held(wanted) == [image_id for image_id in wanted if image_id in images]


def test_local_files_are_asked_for_their_stamps(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.png").write_bytes(b"x" * number)
    table = sorted_images(tmp_path, ((f"{number:02d}.png", None) for number in range(41)))
    stamps = [stamp for batch in table.batches() for stamp in batch.column(1).to_pylist()]
    assert [stamp.split("-")[0] for stamp in stamps] == [*map(str, range(40)), ""]
