"""The search for the batch size, with a labeler that runs out of memory as torch says it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from labeler.models.config import ModelConfig
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.prompters.prompter import FixedPrompts
from labeler.record_files import read_records
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from tests.support.stand_in import GOOD, RAISES, StandIn
from workflows.run.batch_size import BatchSize
from workflows.run.labeling import Stages
from workflows.run.shard import Shard
from workflows.run.shard_report import ShardReport
from workflows.run.shards import label_shards

SHARDS, IMAGES = 6, 64


class Card(StandIn):
    """Has memory for some images at a time."""

    def __init__(self, memory: int) -> None:
        super().__init__()
        self.memory = memory
        self.batches: list[int] = []

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        self.batches.append(len(requests))
        if len(requests) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().label(requests)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for index in range(SHARDS * IMAGES):
        Image.new("RGB", (RAISES if index == 5 else GOOD, 20), (index % 256, 0, 0)).save(root / f"{index:03d}.png")
    return root


def run(images: Path, folder: Path, card: Card, size: BatchSize) -> tuple[ShardReport, list[ImageRecord]]:
    folder.mkdir()
    ids = [f"{index:03d}.png" for index in range(SHARDS * IMAGES)]
    shards = [
        Shard(index, tuple(ids[index * IMAGES : (index + 1) * IMAGES]), folder / f"{index}.parquet")
        for index in range(SHARDS)
    ]
    total = ShardReport()
    for report in label_shards(shards, images, Stages(FixedPrompts(Ontology((ClassSpec("thing"),))), card), size):
        total.add(report)
    return total, list(read_records([shard.records_path for shard in shards]))


@pytest.mark.parametrize(
    ("memory", "fits", "failed"),
    [(1000, 64, []), (40, 32, [64]), (8, 8, [16]), (5, 4, [8]), (1, 1, [8, 4, 2, 2, 4, 2, 2])],
)
def test_the_largest_power_of_two_that_fits(
    memory: int, fits: int, failed: list[int], images: Path, tmp_path: Path
) -> None:
    card, size = Card(memory), BatchSize(8, most=64)
    report, records = run(images, tmp_path / "records", card, size)
    assert (size.images, report.largest_batch) == (fits, fits)
    assert card.batches[-1] == fits
    assert [count for count in card.batches if count > memory] == failed
    _, fixed = run(images, tmp_path / "fixed", Card(1000), BatchSize(8))
    assert records == fixed
    assert [record.image_id for record in records if record.status == "error"] == ["005.png"]


def test_the_rest_of_a_shard_does_not_count_as_a_trial() -> None:
    size = BatchSize(8, most=64)
    size.fitted(4)
    assert size.images == 8
    size.fitted(8)
    assert (size.images, size.largest) == (16, 8)


def test_without_room_nothing_is_tried(images: Path, tmp_path: Path) -> None:
    card = Card(1000)
    size = BatchSize(8, most=64, has_room=lambda: len(card.batches) < 5)
    run(images, tmp_path / "records", card, size)
    assert max(card.batches) == card.batches[-1] == 16


def test_a_fixed_number_stays(images: Path, tmp_path: Path) -> None:
    card, size = Card(3), BatchSize(8)
    report, _ = run(images, tmp_path / "records", card, size)
    assert (size.images, report.largest_batch) == (8, 0)
    assert card.batches.count(8) >= SHARDS * IMAGES // 8 - 1


def test_on_a_cpu_auto_is_the_default() -> None:
    sizes = [BatchSize.of(ModelConfig("", "", device="cpu", batch_size=each)) for each in ("auto", 8, 3)]
    assert [size.images for size in sizes] == [8, 8, 3]
    sizes[0].fitted(8)
    assert (sizes[0].images, sizes[0].largest) == (8, 0)
