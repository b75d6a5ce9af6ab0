from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.prompters.prompter import FixedPrompts
from labeler.records import Instance
from ontologies import ClassSpec, Ontology
from tests.support.stand_in import GOOD, RAISES, StandIn, write_images
from workflows.engines.workers import Worker, WorkerConfig
from workflows.run.labeling import Stages
from workflows.run.shard import Shard


@pytest.fixture
def shards(tmp_path: Path) -> list[Shard]:
    ids = write_images(tmp_path, [GOOD] * 5 + [RAISES] + [GOOD] * 6)
    (tmp_path / "run" / "records").mkdir(parents=True)
    return [Shard(i, tuple(ids[4 * i : 4 * i + 4]), tmp_path / "run" / "records" / f"{i}.parquet") for i in range(3)]


ONTOLOGY = Ontology((ClassSpec("thing"),))


def start(root: Path, labeler: StandIn) -> Worker:
    model = ModelConfig("embedded:detector", "embedded:segmenter", batch_size=2)
    return Worker(WorkerConfig(root, ONTOLOGY, model), Stages(FixedPrompts(ONTOLOGY), labeler))


def test_every_shard_gets_its_own_report(shards: list[Shard], tmp_path: Path) -> None:
    worker = start(tmp_path, StandIn())
    first, second = worker.submit(shards[0]), worker.submit(shards[1])
    assert (first.result(20).images, first.result().failures) == (4, [])
    assert [image_id for image_id, _ in second.result(20).failures] == [shards[1].image_ids[1]]
    assert worker.submit(shards[2]).result(20).images == 4  # also one that comes late, with none behind it


def test_the_next_shard_is_read_while_the_models_are_busy(shards: list[Shard], tmp_path: Path) -> None:
    busy, go_on = threading.Event(), threading.Event()

    class Slow(StandIn):
        def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
            busy.set()
            assert go_on.wait(20)
            return super().label(requests)

    worker = start(tmp_path, Slow())
    reports = [worker.submit(shard) for shard in shards[:2]]
    assert busy.wait(20)
    assert shards[1].attempts_path.exists()  # begun, though the first batch of all is still with the models
    go_on.set()
    assert [report.result(20).images for report in reports] == [4, 4]


def test_a_failure_reaches_all_who_wait(shards: list[Shard], tmp_path: Path) -> None:
    class Refusing(StandIn):
        def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
            raise UsageError("not so")

    worker = start(tmp_path, Refusing())
    for report in [worker.submit(shard) for shard in shards]:
        with pytest.raises(UsageError, match="not so"):
            report.result(20)
    with pytest.raises(UsageError):
        worker.submit(shards[0]).result(20)
