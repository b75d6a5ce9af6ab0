"""The workers of a run on Ray, seen from the process that started it: who is there, and who has which shards.

A place for a worker is filled again whenever its worker is lost, whether its process died or its node went away. A
worker that finds no room on the cluster stays pending, which is what Ray's autoscaler takes as a demand for nodes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from labeler.errors import ModelError, RunError
from labeler.files.storage import info
from workflows.engines.handing_out import Queue, next_size
from workflows.engines.ray_cluster import last_line
from workflows.engines.ray_workers import RayWorker
from workflows.engines.resources import Pool
from workflows.engines.workers import WorkerConfig
from workflows.run.attempts import CRASHES, Attempts
from workflows.run.shard import Shard
from workflows.run.shard_report import ShardReport
from workflows.run.shards import report_of

BLOCKS_PER_WORKER = 2  # one being labeled, one waiting, so that images are read ahead


@dataclass
class Call:
    """A block that a worker has: the stream of its outcomes, and the shards that were not reported yet."""

    outcomes: Any
    size: int
    unreported: dict[int, Shard]


@dataclass
class Place:
    """A place for a worker.

    Attributes:
        starting: the answer of a worker that is not there yet; None once it is.
        node: the id of the node that it is on.
        block: how many shards it gets next.
        since: when its last block ended, by ``time.monotonic``.
    """

    actor: Any = None
    starting: Any = None
    node: str = ""
    calls: list[Call] = field(default_factory=list)
    block: int = 1
    since: float = 0.0


class RayPool:
    """The places of ``pool``, and the shards that are in them.

    Args:
        queue: where shards come from, and those of lost workers go back to.
    """

    def __init__(self, pool: Pool, config: WorkerConfig, queue: Queue) -> None:
        import ray

        options: dict[str, Any] = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "max_concurrency": BLOCKS_PER_WORKER}
        if pool.environment:
            options["runtime_env"] = dict(pool.environment)
        self._class = ray.remote(**options)(RayWorker)
        self._arguments = (ray.put(config), pool.cpus, pool.gpus)
        self._queue = queue
        self._losses: Counter[int] = Counter()  # by place, since a worker last made progress
        self.places = [Place() for _ in range(pool.workers)]
        for place in self.places:
            self._start(place)

    @property
    def ready(self) -> int:
        """How many workers are there, with their models."""
        return sum(place.starting is None for place in self.places)

    @property
    def is_busy(self) -> bool:
        return any(place.calls for place in self.places)

    def hand_out(self) -> None:
        """Give shards to every worker that has too few."""
        for place in self.places:
            while place.starting is None and len(place.calls) < BLOCKS_PER_WORKER:
                if not (block := self._queue.take(place.block)):
                    return
                if not place.calls:
                    place.since = time.monotonic()
                outcomes = place.actor.label.options(num_returns="streaming").remote(block)
                place.calls.append(Call(outcomes, len(block), {shard.index: shard for shard in block}))

    def wait(self, seconds: float) -> Iterator[ShardReport | Place]:
        """What happens within ``seconds``: the reports of shards, and places whose worker has just started.

        Raises:
            Exception: what a worker could not do.
        """
        import ray

        asked = {place.starting: place for place in self.places if place.starting is not None}
        asked |= {call.outcomes: place for place in self.places for call in place.calls}
        ray.wait(list(asked), timeout=seconds, fetch_local=False)
        there, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0, fetch_local=False)
        for each in there:
            place = asked[each]
            try:
                if each is place.starting:
                    place.node, failure = ray.get(each)
                    if failure is not None:
                        raise failure
                    place.starting = None
                    yield place
                elif call := next((call for call in place.calls if call.outcomes is each), None):
                    yield from self._reported(place, call)
            except ray.exceptions.RayError as error:
                yield from self._lost(place, error)

    def _reported(self, place: Place, call: Call) -> Iterator[ShardReport]:
        import ray

        try:
            outcomes = ray.get(next(call.outcomes))
        except StopIteration:
            place.calls.remove(call)
            self._queue.give_back(call.unreported.values())
            now = time.monotonic()
            place.block, place.since = next_size(call.size, now - place.since), now
            return
        for index, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            if call.unreported.pop(index, None):
                self._losses.clear()
                yield outcome

    def _lost(self, place: Place, error: Exception) -> Iterator[ShardReport]:
        """Start a new worker in place of a lost one; the reports of shards that the lost one wrote are yielded."""
        had = [shard for call in place.calls for shard in call.unreported.values()]
        if any(Attempts(shard.attempts_path).total for shard in had):  # which tell what killed it
            self._losses.clear()
        self._losses[id(place)] += 1
        if self._losses[id(place)] > CRASHES:
            if place.starting is None:
                raise RunError(f"Ray no longer finishes any shard: {last_line(error)}") from error
            raise _cannot_start(error) from error
        written = [shard for shard in had if info(shard.records_path)]
        self._queue.give_back(shard for shard in had if shard not in written)
        self._stop(place)
        self._start(place)
        for shard in written:
            yield report_of(shard)

    def _start(self, place: Place) -> None:
        place.actor = self._class.remote(*self._arguments)
        place.starting, place.calls, place.block = place.actor.ready.remote(), [], 1

    def _stop(self, place: Place) -> None:
        import ray

        ray.kill(place.actor)

    def close(self) -> None:
        """End all workers at once, whatever they do."""
        for place in self.places:
            self._stop(place)


def _cannot_start(error: Exception) -> Exception:
    import ray

    if isinstance(error, (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)):
        return ModelError("workers are killed while they load the models; is there enough memory?")
    return RunError(f"Ray cannot start a worker: {last_line(error)}")
