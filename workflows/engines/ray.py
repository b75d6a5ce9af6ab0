"""The Ray engine: distributes shards to workers, each of which loads the models once.

Workers receive only paths and return only figures. Ray restarts a worker that dies. Its shards are distributed again in
the next round: record files show which shards are done, and the notes of ``workflows.run.attempts`` what killed a
worker. Ray is imported on first use.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from labeler.errors import RunError
from labeler.files.storage import info
from workflows.engines.ray_cluster import (
    Say,
    check_shared,
    checked_environment,
    joined_ray,
    last_line,
    nodes_alive,
    say_if_taken,
)
from workflows.engines.ray_workers import SHARDS_PER_WORKER, label_on_workers
from workflows.engines.resources import Pool, fitting, plan_pool
from workflows.engines.workers import WorkerConfig
from workflows.run.attempts import Attempts
from workflows.run.shard import Shard, Shards
from workflows.run.shards import ShardReport, report_of
from workflows.settings.engine import EngineConfig

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

FRUITLESS_ROUNDS = 2
CHECK_SECONDS, LOST_SECONDS = 5.0, 60.0  # how often nodes are counted; how long none may have room


@contextmanager
def ray_engine(
    shards: Shards, config: WorkerConfig, engine: EngineConfig, output: AnyPath, say: Say
) -> Iterator[Iterator[ShardReport]]:
    """Label ``shards`` on Ray workers; yields one report per shard.

    Args:
        engine: the cluster to join, and the workers to start there.
        output: the output folder, which all nodes must see.
        say: receives progress messages for the user.

    Raises:
        UsageError: no cluster answers at the address, it has too few resources, or a node cannot see the folders.
        RunError: no worker can continue.
    """
    with joined_ray(engine.cluster_address):
        pool = plan_pool(nodes_alive(), engine, config.model.device, len(shards))
        pool = replace(pool, environment=checked_environment(engine.environment))
        check_shared(config.root, output, shards)
        device = "cuda" if pool.gpus and config.model.device == "auto" else config.model.device
        config = _with_absolute_paths(replace(config, model=replace(config.model, device=device)))
        say(f"starting {pool}")
        say_if_taken(pool, say)
        with closing(_rounds(shards, config, pool, say)) as reports:
            yield reports


def _with_absolute_paths(config: WorkerConfig) -> WorkerConfig:
    """``config`` with absolute paths of models, since workers have other working directories."""
    model = replace(
        config.model, detector=_absolute(config.model.detector), segmenter=_absolute(config.model.segmenter)
    )
    tagging = config.tagging
    if tagging and tagging.tagger_model:
        tagging = replace(tagging, tagger_model=_absolute(tagging.tagger_model))
    return replace(config, model=model, tagging=tagging)


def _absolute(model: str) -> str:
    path = os.path.expanduser(model)  # an empty one names no model, and does not exist
    return os.path.abspath(path) if os.path.exists(path) else model


def _rounds(shards: Shards, config: WorkerConfig, pool: Pool, say: Say) -> Generator[ShardReport, None, None]:
    """Distribute shards until all are reported. One round is enough, unless nodes are lost with their workers."""
    import ray

    waiting = {shard.index: shard for shard in shards}
    fruitless = 0
    while waiting:
        before = _progress(waiting.values())
        cause = "workers were lost"
        try:
            yield from _round(waiting, config, pool)
        except ray.exceptions.RayError as error:
            cause = last_line(error)
        for shard in [shard for shard in waiting.values() if info(shard.records_path)]:
            del waiting[shard.index]  # written, but its report was lost
            yield report_of(shard)
        fruitless = fruitless + 1 if _progress(waiting.values()) == before else 0
        if fruitless == FRUITLESS_ROUNDS:
            raise RunError(f"Ray no longer finishes any shard: {cause}")
        if waiting:
            pool = replace(pool, workers=max(1, min(pool.workers, len(waiting), fitting(nodes_alive(), pool))))
            say(f"{cause}; continuing with {pool}")


def _progress(waiting: Collection[Shard]) -> tuple[int, int]:
    """A value that changes whenever a shard is finished or an attempt kills its worker."""
    return len(waiting), sum(Attempts(shard.attempts_path).total for shard in waiting)


def _round(waiting: dict[int, Shard], config: WorkerConfig, pool: Pool) -> Generator[ShardReport, None, None]:
    """Reports of the ``waiting`` shards, each removed from ``waiting``; ends early if the rest must be redistributed.

    Raises:
        RunError: no node has had room for a worker for ``LOST_SECONDS``.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Ray Data runs in its own process. Killing that process stops it and its workers at once, even while they wait.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    labeling = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(label_on_workers)
    table = pa.table({"shard": [pickle.dumps(shard) for shard in waiting.values()]})
    outcomes = labeling.remote(table, config, pool, next(iter(waiting.values())).attempts_path.parent)
    last_room = time.monotonic()
    try:
        while waiting:
            ready, _ = ray.wait([outcomes], timeout=CHECK_SECONDS)
            if ready:
                for index, outcome in map(pickle.loads, ray.get(next(outcomes))):
                    if isinstance(outcome, Exception):
                        raise outcome
                    if waiting.pop(index, None):
                        yield outcome
                continue
            lost = pool.workers - fitting(nodes_alive(), pool)
            if lost < pool.workers:
                last_room = time.monotonic()
            elif time.monotonic() - last_room > LOST_SECONDS:
                raise RunError(f"no node has room any more for one of {pool}")
            # Ray Data does not reassign the shards of a worker that was lost with its node. End if only those are left.
            if lost > 0 and len(waiting) <= lost * SHARDS_PER_WORKER and lost < pool.workers:
                return
    except StopIteration:
        return
    finally:
        ray.cancel(outcomes, force=True)
