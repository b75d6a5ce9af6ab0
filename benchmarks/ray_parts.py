"""What the Ray benchmarks share: images for next to nothing, labelers without models, and a look at all processes."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import psutil
from PIL import Image

from labeler.models.config import ModelConfig
from labeler.models.labelers.labeler import LabelRequest
from labeler.records import Instance
from ontologies import Ontology
from workflows.run.shards import ShardReport
from workflows.settings.engine import EngineConfig
from workflows.settings.job import LabelJob

MIB = 2**20
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")  # what Ray says of dead workers; read when Ray is imported
ODD = 48  # pixels wide, other images 64: the one that a benchmark does something to


@dataclass
class NoModel:
    """Finds nothing, and takes ``seconds`` an image for it; ``log`` is a folder where it counts the images it saw."""

    seconds: float = 0.0
    log: Path | None = None
    odd: str = ""  # what befalls it with the odd image: "raise" or "kill"
    most: int = 10**9

    kind: ClassVar[str] = "no-model"

    def models(self, config: ModelConfig) -> tuple[()]:
        return ()

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {"labeler": self.kind}

    def load(self, config: ModelConfig) -> NoModel:
        return self

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        images = [request.pixels for request in requests]
        if self.log:
            with open(self.log / str(os.getpid()), "a") as file:
                file.write("." * len(images))
        if self.odd and any(image.shape[1] == ODD for image in images):
            if self.odd == "kill":
                os.kill(os.getpid(), 9)
            raise ValueError("an odd image")
        if len(images) > self.most:
            raise RuntimeError("CUDA out of memory")
        time.sleep(self.seconds * len(images))
        return [[] for _ in images]


def link_images(folder: Path, count: int, odd: int = -1) -> Path:
    """``count`` names of one small image, a thousand a folder; number ``odd`` is another one."""
    for start in range(0, count, 1000):
        names = [folder / f"{start // 1000:04d}" / f"{n:07d}.png" for n in range(start, min(start + 1000, count))]
        names[0].parent.mkdir(parents=True)
        Image.new("RGB", (64, 64), "grey").save(names[0])
        for name in names[1:]:
            os.link(names[0], name)
    if odd >= 0:
        path = folder / f"{odd // 1000:04d}" / f"{odd:07d}.png"
        path.unlink()  # it may be one of many links
        Image.new("RGB", (ODD, 64), "grey").save(path)
    return folder


def job(images: Path, output: Path, labeler: NoModel, engine: EngineConfig, shard_size: int = 128) -> LabelJob:
    model = ModelConfig("embedded:detector", "embedded:segmenter")
    ontology = Ontology.from_text("thing")
    return LabelJob(str(images), output, ontology, model, shard_size=shard_size, engine=engine, labeler=labeler)


class Reports:
    """Progress that keeps of each report when it came, of whom, how many images, and when their first was labeled."""

    def __init__(self) -> None:
        self.came: list[tuple[float, str, int, float]] = []

    def begin(self, images: int, already_labeled: int) -> None: ...
    def stage(self, doing: str, images: int = 0) -> None: ...
    def advance(self, report: ShardReport) -> None:
        self.came.append((time.time(), next(iter(report.workers), ""), report.images, report.first_image))

    def say(self, message: str) -> None: ...

    def rate(self, batch_size: int) -> float:
        """Images a second of all workers, each counted from the end of its first batch to its last report."""
        ends, starts, images = dict[str, float](), dict[str, float](), Counter[str]()
        for at, worker, count, first in self.came:
            ends[worker] = max(at, ends.get(worker, at))
            starts[worker] = min(first, starts.get(worker, first))
            images[worker] += count
        return sum((images[worker] - batch_size) / (ends[worker] - starts[worker]) for worker in ends)


@dataclass
class Tree:
    """A process with all that come of it, watched until it ends.

    Attributes:
        cpu: seconds of all, as last seen of each.
        driver_rss, total_pss: peak bytes; PSS shares out what processes have in common.
    """

    process: subprocess.Popen[Any]
    every: float = 0.5
    cpu: Counter[int] = field(default_factory=Counter)
    driver_rss: int = 0
    total_pss: int = 0

    def wait(self) -> int:
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        code = self.process.wait()
        watcher.join()
        return code

    def _watch(self) -> None:
        try:
            root = psutil.Process(self.process.pid)
        except psutil.NoSuchProcess:
            return
        while self.process.poll() is None:
            pss = 0
            for each in (root, *_children(root)):
                try:
                    with each.oneshot():
                        times = each.cpu_times()
                        self.cpu[each.pid] = times.user + times.system  # type: ignore[assignment]
                        if each == root:
                            self.driver_rss = max(self.driver_rss, each.memory_info().rss)
                        pss += each.memory_full_info().pss
                except psutil.Error:
                    continue
            self.total_pss = max(self.total_pss, pss)
            time.sleep(self.every)


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []
