"""A labeler whose masks are encoded by other threads, as seen by the code that runs it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from labeler.errors import ImageError, UsageError
from labeler.models.labelers.labeler import LabelRequest, PendingInstances
from labeler.models.prompters.prompter import FixedPrompts
from labeler.record_files import read_records
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from tests.support import ROOT
from tests.support.command_line import write_scenes
from tests.support.stand_in import GOOD, StandIn, write_images
from workflows.run.attempts import CRASHES, Attempts
from workflows.run.labeling import Stages
from workflows.run.shard import Shard
from workflows.run.shards import label_shards


class Encoding(StandIn):
    """Returns from ``begin`` before its masks are done.

    ``told`` has the images whose models and whose masks were done, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def begin(self, requests: Sequence[LabelRequest]) -> list[PendingInstances]:
        self.told += [f"models {request.image_id}" for request in requests]
        labeled = super().label(requests)
        return [
            lambda request=request, instances=instances: self.masks(request.image_id, instances)  # type: ignore[misc]
            for request, instances in zip(requests, labeled, strict=True)
        ]

    def masks(self, image_id: str, instances: list[Instance]) -> list[Instance]:
        self.told.append(f"masks {image_id}")
        return instances


def run(root: Path, labeler: StandIn, per_shard: int, count: int) -> list[ImageRecord]:
    ids = write_images(root, [GOOD] * count)
    (root / "records").mkdir(exist_ok=True)
    shards = [
        Shard(start, tuple(ids[start : start + per_shard]), root / "records" / f"{start}.parquet")
        for start in range(0, count, per_shard)
    ]
    stages = Stages(FixedPrompts(Ontology((ClassSpec("thing"),))), labeler)
    list(label_shards(shards, root, stages, 2))
    return list(read_records([shard.records_path for shard in shards]))


@pytest.mark.parametrize("per_shard", [2, 8])
def test_models_go_on_while_masks_are_encoded(per_shard: int, tmp_path: Path) -> None:
    class Waits(Encoding):
        """The masks of the first batch are done only once the models work on the second."""

        second = threading.Event()

        def begin(self, requests: Sequence[LabelRequest]) -> list[PendingInstances]:
            if self.told:
                self.second.set()
            return super().begin(requests)

        def masks(self, image_id: str, instances: list[Instance]) -> list[Instance]:
            assert self.second.wait(20)
            return super().masks(image_id, instances)

    records = run(tmp_path / "overlap", Waits(), per_shard, 8)
    assert records == run(tmp_path / "plain", StandIn(), per_shard, 8)
    assert [record.image_id for record in records] == [f"{index:04d}.png" for index in range(8)]


def test_masks_that_fail_cost_their_image_alone(tmp_path: Path) -> None:
    class Fails(Encoding):
        def masks(self, image_id: str, instances: list[Instance]) -> list[Instance]:
            if image_id == "0001.png":
                raise MemoryError("no room for a mask")
            if image_id == "0002.png":
                raise ImageError("it is too odd")
            return super().masks(image_id, instances)

    records = run(tmp_path, Fails(), 4, 4)
    assert [record.error for record in records] == [
        "", "labeling failed: MemoryError: no room for a mask", "it is too odd", "",
    ]  # fmt: skip
    assert [len(record.instances) for record in records] == [1, 0, 0, 1]
    assert records[1].width == GOOD


def test_wrong_settings_stop_the_run(tmp_path: Path) -> None:
    class Refuses(Encoding):
        def masks(self, image_id: str, instances: list[Instance]) -> list[Instance]:
            raise UsageError("not so")

    with pytest.raises(UsageError, match="not so"):
        run(tmp_path, Refuses(), 2, 6)
    assert not list((tmp_path / "records").iterdir())


def test_images_of_a_suspect_shard_are_done_one_after_the_other(tmp_path: Path) -> None:
    """Else the next image could be blamed for masks that kill the process."""
    for _ in range(CRASHES):
        Attempts(tmp_path / "attempts" / "000000.json").begin()
    labeler = Encoding()
    run(tmp_path, labeler, 3, 3)
    assert labeler.told == [f"{stage} {index:04d}.png" for index in range(3) for stage in ("models", "masks")]


BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyarrow", "ray", "supervision", "autodistill", "upath"):
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Missing())

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from labeler.files.image_config import ImageConfig
from labeler.models.config import ModelConfig
from labeler.models.labelers.on_device import labeler_on_device
from labeler.models.loading import load_grounded_sam
from labeler.models.prompters.prompter import FixedPrompts
from ontologies import Ontology
from workflows.run.batch_size import BatchSize
from workflows.run.labeling import Stages, label_batches
from workflows.run.shard import Shard

folder = Path(sys.argv[1])
config = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu", batch_size="auto")
labeler = labeler_on_device(load_grounded_sam(config), config)
stages = Stages(FixedPrompts(Ontology.from_text("circle, star, heart")), labeler)
shard = Shard(0, tuple(sorted(path.name for path in folder.iterdir())), folder.parent / "run" / "records" / "0.parquet")
with ThreadPoolExecutor(2) as readers:
    for batch in label_batches([shard], folder, stages, BatchSize.of(config), ImageConfig(), readers):
        print(*(len(batch.records[image_id]().instances) for image_id in shard.image_ids))
"""


def test_the_way_from_images_to_instances_needs_no_parquet_and_no_ray(tmp_path: Path) -> None:
    """Such as on a bare machine with a GPU, where the models are measured."""
    write_scenes(tmp_path / "images", range(2))
    command = [sys.executable, "-c", BARE, str(tmp_path / "images")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    found = [int(count) for count in done.stdout.split()]
    assert len(found) == 2
    assert all(found)
