"""A labeler without models, and its own kind: quick, and really failing where it is told to.

It knows images by their width. As a program, ``python stand_in.py IMAGES
OUT`` runs the whole job in a process that may be killed; both may be URIs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.errors import DeviceError
from labeler.files.storage import locate
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.models.kinds.kind import LabelerKind
from labeler.models.labelers.labeler import LabelRequest
from labeler.records import Instance
from ontologies import ClassSpec, Ontology
from workflows.label import label
from workflows.run.shard_report import ShardReport
from workflows.settings.engine import EngineConfig
from workflows.settings.job import LabelJob

GOOD, RAISES, KILLS, LOSES_DEVICE = 30, 31, 32, 33


@dataclass
class StandIn:
    """One instance per image: the pixels no darker than its mean, so all of an image of one colour.

    Attributes:
        seconds: what a batch takes.
        most: images in one batch that fit into memory.
        pids: a folder in which every process that labels leaves its id.
        dies_after: a record file after whose writing the process is killed; ``dead`` in ``pids`` says it was.
        healthy: labels the images, too, on which it would fail.
    """

    seconds: float = 0.0
    most: int = 1000
    pids: Path | None = None
    dies_after: Path | None = None
    healthy: bool = False

    kind: ClassVar[str] = "stand-in"

    def models(self, config: ModelConfig) -> tuple[()]:
        return ()

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {"labeler": self.kind}

    def load(self, config: ModelConfig) -> StandIn:
        return self

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        images = [request.pixels for request in requests]
        if self.pids:
            (self.pids / str(os.getpid())).touch()
        widths = set() if self.healthy else {image.shape[1] for image in images}
        if KILLS in widths:
            os.kill(os.getpid(), signal.SIGKILL)
        if LOSES_DEVICE in widths:
            raise DeviceError("the GPU is lost to this process (CUDA error: an illegal memory access); run again")
        if RAISES in widths:
            raise ValueError("no such luck")
        if len(images) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        if self.dies_after and self.pids and self._is_written() and not (self.pids / "dead").exists():
            (self.pids / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return [[_bright(request.pixels, request.ontology)] for request in requests]

    def _is_written(self) -> bool:
        assert self.dies_after is not None
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if self.dies_after.exists():
                return True
            time.sleep(0.01)
        return False


@dataclass
class KilledWhileLoading(StandIn):
    def load(self, config: ModelConfig) -> StandIn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@dataclass
class FindsEach(StandIn):
    """One instance per prompt: ten rows of the image, from a place and with a score that the prompt decides.

    Attributes:
        named: what tells two such labelers apart.
        asked: a file that gets a line for every image: its id, and the prompts that were asked.
    """

    named: str = "first"
    asked: Path | None = None

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {"labeler": self.kind, "named": self.named}

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        super().label(requests)
        if self.asked:
            lines = [f"{each.image_id} {' '.join(prompt for prompt, _ in each.ontology.prompts)}" for each in requests]
            with self.asked.open("a") as file:
                file.write("".join(f"{line}\n" for line in lines))
        return [[_rows(each.pixels, *pair) for pair in each.ontology.prompts] for each in requests]


def _rows(image: NDArray[np.uint8], prompt: str, class_id: int) -> Instance:
    first = sum(prompt.encode()) % 10
    mask = np.zeros(image.shape[:2], bool)
    mask[first : first + 10] = True
    rle = mask_to_rle(mask)
    return Instance(class_id, prompt, rle_box_xyxy(rle), 0.6 + first / 100, 0.9, 0.9, rle_area(rle), rle)


@dataclass
class TellsThreads(StandIn):
    """Writes to ``told`` how many threads torch uses in its worker."""

    told: Path = Path()

    def load(self, config: ModelConfig) -> StandIn:
        import torch

        self.told.write_text(str(torch.get_num_threads()))
        return self


def _bright(image: NDArray[np.uint8], ontology: Ontology) -> Instance:
    brightness = image.sum(axis=2, dtype=np.int64)
    rle = mask_to_rle(brightness * brightness.size >= brightness.sum())
    score = 0.5 + float(image.mean()) / 512
    (prompt, *_) = ontology.classes[0].prompts
    return Instance(0, prompt, rle_box_xyxy(rle), score, 0.9, 0.9, rle_area(rle), rle)


def write_images(folder: Path, widths: Sequence[int]) -> list[str]:
    """Images of those widths; their ids, in the order of a run's records."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, width in enumerate(widths):
        Image.new("RGB", (width, 20), (index % 256, index // 256, 0)).save(folder / f"{index:04d}.png")
    return [f"{index:04d}.png" for index in range(len(widths))]


def stand_in_job(
    images: Path | str,
    output: Path | str,
    labeler: LabelerKind | None = None,
    engine: EngineConfig | None = None,
    **settings: Any,
) -> LabelJob:
    """Shards of four images, batches of two; ``settings`` are fields of the job."""
    device = "auto" if engine else "cpu"  # a Ray cluster of the tests has GPUs in name only
    given: dict[str, Any] = {"ontology": Ontology((ClassSpec("thing"),)), "shard_size": 4} | settings
    return LabelJob(
        images=str(images),
        output=locate(str(output)),
        model=ModelConfig("embedded:detector", "embedded:segmenter", device=device, batch_size=2),
        engine=engine or EngineConfig("local"),
        labeler=labeler or StandIn(),
        **given,
    )


class Silent:
    """Progress that only remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, images: int, already_labeled: int) -> None: ...
    def stage(self, doing: str, images: int = 0) -> None: ...
    def advance(self, report: ShardReport) -> None: ...
    def say(self, message: str) -> None:
        self.said.append(message)


def record_files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / "run" / "records").glob("*.parquet")}


def main() -> None:
    """Label in this process; prints how many images are labeled already."""

    class Counts(Silent):
        def begin(self, images: int, already_labeled: int) -> None:
            print(f"{already_labeled} of {images}", flush=True)

    label(stand_in_job(*sys.argv[1:], StandIn(seconds=0.01)), Counts())


if __name__ == "__main__":
    main()
