"""A worker of the Ray engine: an actor that loads the models once and labels blocks of shards."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from labeler.errors import DeviceError, LabelerError
from ontologies import OntologyError
from workflows.engines.ray_cluster import unseen
from workflows.engines.workers import Worker, WorkerConfig
from workflows.run.shard import Shard
from workflows.run.shard_report import ShardReport

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

Outcome = tuple[int, ShardReport | Exception]  # of the shard with that index


class RayWorker:
    """Loads the models when it starts. Methods run in threads, two at a time.

    Args:
        cpus, gpus: what Ray has reserved for this worker.
    """

    def __init__(self, config: WorkerConfig, cpus: float, gpus: float) -> None:
        import ray

        os.environ["OMP_NUM_THREADS"] = str(max(1, int(cpus)))  # before torch is imported
        if not gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # some versions of Ray do not hide GPUs from workers without one
        context = ray.get_runtime_context()
        self._name, self._node = str(context.get_actor_id()), str(context.get_node_id())
        self._failure: Exception | None = None
        try:
            self._worker = Worker(config, config.load_stages())
        except Exception as error:
            self._failure = _told(error)

    def ready(self) -> tuple[str, Exception | None]:
        """The id of the worker's node, and why the models could not be loaded, if they could not."""
        return self._node, self._failure

    def unseen(self, token: AnyPath, image: AnyPath) -> str:
        """As the function of that name, on the worker's node."""
        return unseen(token, image)

    def label(self, block: Sequence[Shard]) -> Iterator[list[Outcome]]:
        """Label ``block`` behind the blocks of earlier calls; outcomes are yielded as soon as they are there."""
        begun = [(shard, self._worker.submit(shard)) for shard in block]
        while begun:
            outcomes = [self._outcome(*begun.pop(0))]
            while begun and begun[0][1].done():
                outcomes.append(self._outcome(*begun.pop(0)))
            yield outcomes

    def _outcome(self, shard: Shard, labeled: Future[ShardReport]) -> Outcome:
        try:
            report = labeled.result()
        except DeviceError:
            os._exit(1)  # only a new process can use the device again; the notes in run/attempts name the shard
        except Exception as error:
            return shard.index, _told(error)
        report.workers = Counter({self._name: report.images})
        return shard.index, report


def _told(error: Exception) -> Exception:
    """``error`` as the process that started the run raises it."""
    if isinstance(error, (LabelerError, OntologyError, OSError)):
        return error
    return RuntimeError(f"a worker failed:\n{''.join(traceback.format_exception(error))}")
