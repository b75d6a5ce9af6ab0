"""One process of an engine that has several: models loaded once, shards as they come, each into its own record file."""

from __future__ import annotations

import gc
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from labeler.files.image_config import ImageConfig
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.labelers.labeler import detector_of
from labeler.models.prompters.loading import load_prompter
from labeler.models.prompters.prompter import TagPrompts
from labeler.models.taggers.config import TaggingConfig
from labeler.models.taggers.loading import load_tagger
from ontologies import Ontology
from workflows.run.batch_size import BatchSize
from workflows.run.labeling import Stages
from workflows.run.shard import Shard
from workflows.run.shard_report import ShardReport
from workflows.run.shards import label_shards

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the search for unreachable cycles: importing torch and transformers makes a million objects and no garbage.

    Searching them again and again takes a fifth of the time that loading takes.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class WorkerConfig:
    """All that a worker is told; it must be picklable.

    Attributes:
        root: the input root.
        ontology: None lets images propose their own, by ``tagging``.
        model: which models run, and how.
        labeler: what is made of them; it is loaded in the worker.
        tags_only: tag, and look for nothing.
        cache: a folder for what is computed once a run.
        reading: how images are read.
    """

    root: AnyPath
    ontology: Ontology | None
    model: ModelConfig
    labeler: LabelerKind = field(default_factory=GroundedSamKind)
    tagging: TaggingConfig | None = None
    tags_only: bool = False
    cache: AnyPath | None = None
    reading: ImageConfig = field(default_factory=ImageConfig)

    @_collector_paused()
    def load_stages(self) -> Stages:
        if self.tags_only and self.tagging:
            return Stages(TagPrompts(load_tagger(self.tagging, self.model, None, self.cache), lambda tag: False), None)
        labeler = self.labeler.load(self.model)
        prompter = load_prompter(self.tagging, self.ontology, self.model, detector_of(labeler), self.cache)
        return Stages(prompter, labeler)


class Worker:
    """Labels shards in a thread of its own, so that those handed in next are read while the models are busy."""

    def __init__(self, config: WorkerConfig, stages: Stages) -> None:
        self._config = config
        self._stages = stages
        self._waiting: SimpleQueue[tuple[Shard, Future[ShardReport]]] = SimpleQueue()
        self._begun: deque[Future[ShardReport]] = deque()
        threading.Thread(target=self._work, name="shards", daemon=True).start()

    def submit(self, shard: Shard) -> Future[ShardReport]:
        """Label ``shard`` behind those submitted before it."""
        future: Future[ShardReport] = Future()
        self._waiting.put((shard, future))
        return future

    def _work(self) -> None:
        config = self._config
        try:
            size = BatchSize.of(config.model)
            for report in label_shards(self._shards(), config.root, self._stages, size, config.reading):
                self._begun.popleft().set_result(report)
        except BaseException as error:
            for future in self._begun:
                future.set_exception(error)
            while True:  # and so will everything that is still to come
                self._waiting.get()[1].set_exception(error)

    def _shards(self) -> Iterator[Shard | None]:
        while True:
            try:
                shard, future = self._waiting.get_nowait()
            except Empty:
                yield None
                shard, future = self._waiting.get()
            self._begun.append(future)
            yield shard
