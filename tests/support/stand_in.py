"""A labeler without models for tests of the engines: quick, and really failing where it is told to.

It knows images by their width, since nothing else of them reaches a labeler.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.errors import DeviceError
from labeler.geometry.masks import mask_to_rle
from labeler.models.config import ModelConfig
from labeler.records import Instance
from ontologies import ClassSpec, Ontology
from workflows.label import label
from workflows.run.shards import ShardReport
from workflows.settings.engine import EngineConfig
from workflows.settings.job import LabelJob

GOOD, RAISES, KILLS, LOSES_DEVICE = 30, 31, 32, 33


@dataclass
class StandIn:
    """One instance an image, the whole of it.

    Attributes:
        seconds: what a batch takes.
        most: images in one batch that fit into memory.
        pids: a folder in which every process that labels leaves its id.
        dies_after: a record file after whose writing the process is killed; ``dead`` in ``pids`` says it was.
    """

    seconds: float = 0.0
    most: int = 1000
    pids: Path | None = None
    dies_after: Path | None = None

    def label(self, images: Sequence[NDArray[np.uint8]], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        if self.pids:
            (self.pids / str(os.getpid())).touch()
        widths = {image.shape[1] for image in images}
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
        return [[_whole(*image.shape[:2])] for image in images]

    def _is_written(self) -> bool:
        assert self.dies_after is not None
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if self.dies_after.exists():
                return True
            time.sleep(0.01)
        return False


def killed_while_loading() -> StandIn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def that_tells_threads(path: Path) -> StandIn:
    import torch

    path.write_text(str(torch.get_num_threads()))
    return StandIn()


def _whole(height: int, width: int) -> Instance:
    rle = mask_to_rle(np.ones((height, width), dtype=bool))
    return Instance(0, "thing", (0, 0, width, height), 0.9, 0.9, 0.9, height * width, rle)


def write_images(folder: Path, widths: Sequence[int]) -> list[str]:
    """Images of those widths; their ids, in the order of a run's records."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, width in enumerate(widths):
        Image.new("RGB", (width, 20), (index % 256, index // 256, 0)).save(folder / f"{index:04d}.png")
    return [f"{index:04d}.png" for index in range(len(widths))]


def main() -> None:
    """``python stand_in.py IMAGES OUT``: label with the local engine, in a process that may be killed."""
    images, output = sys.argv[1:]
    label(stand_in_job(Path(images), Path(output), StandIn()), Silent())


class Silent:
    """Progress that only remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, images: int, already_labeled: int) -> None: ...
    def advance(self, report: ShardReport) -> None: ...
    def say(self, message: str) -> None:
        self.said.append(message)


def stand_in_job(images: Path, output: Path, labeler: StandIn, engine: EngineConfig | None = None) -> LabelJob:
    """Shards of four images, batches of two."""
    return LabelJob(
        images=str(images),
        output=output,
        ontology=Ontology((ClassSpec("thing"),)),
        model=ModelConfig("embedded:detector", "embedded:segmenter", batch_size=2),
        shard_size=4,
        engine=engine or EngineConfig("local"),
        load=partial(_itself, labeler),
    )


def _itself(labeler: StandIn) -> StandIn:
    return labeler


def record_files(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (output / "run" / "records").glob("*.parquet")}


if __name__ == "__main__":
    main()
