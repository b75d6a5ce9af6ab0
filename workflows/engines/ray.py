"""The Ray engine: hands out shards to workers, each of which loads the models once.

Workers receive only paths and return only figures. The shards of a worker that is lost are handed out again: record
files show which of them are done, and the notes of ``workflows.run.attempts`` what killed it. Ray is imported on first
use.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from labeler.errors import RunError
from workflows.engines.attendance import CHECK_SECONDS, Attendance
from workflows.engines.handing_out import Queue
from workflows.engines.ray_cluster import (
    Say,
    an_image,
    check_shared,
    checked_environment,
    joined_ray,
    last_line,
    nodes_alive,
    nodes_by_id,
    refuse_unseen,
    say_if_taken,
    token_in,
)
from workflows.engines.ray_pool import Place, RayPool
from workflows.engines.resources import Pool, plan_pool
from workflows.engines.workers import WorkerConfig
from workflows.run.shard import Shard, Shards
from workflows.run.shard_report import ShardReport
from workflows.settings.engine import EngineConfig

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


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
    coming, count = iter(shards), len(shards)
    first = next(coming)
    with joined_ray(engine.cluster_address):
        pool = plan_pool(nodes_alive(), engine, config.model.device, count)
        pool = replace(pool, environment=checked_environment(engine.environment))
        check_shared(config.root, output, first)
        look = _Look(config.root, output, an_image(config.root, first))
        device = "cuda" if pool.gpus and config.model.device == "auto" else config.model.device
        config = _with_absolute_paths(replace(config, model=replace(config.model, device=device)))
        say(f"starting {pool}")
        if pool.least is None:
            say_if_taken(pool, say)
        with closing(_reports(chain([first], coming), count, config, pool, look, say)) as reports:
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


def _reports(
    shards: Iterator[Shard], count: int, config: WorkerConfig, pool: Pool, look: _Look, say: Say
) -> Generator[ShardReport, None, None]:
    """Hand out shards until all ``count`` of them are reported.

    Raises:
        RunError: no node has had room for a worker of a fixed number of them for ``LOST_SECONDS``, or Ray has ended.
    """
    import ray

    queue = Queue(shards, count, pool.workers)
    workers = RayPool(pool, config, queue)
    attendance = Attendance(pool, say)
    try:
        while True:
            attendance.note(workers.ready)
            if attendance.may_begin:
                workers.hand_out()
            if not queue and not workers.is_busy:
                return
            for each in workers.wait(CHECK_SECONDS):
                if isinstance(each, ShardReport):
                    yield each
                else:
                    look.at(each)
    except ray.exceptions.RayError as error:
        raise RunError(f"Ray no longer answers: {last_line(error)}; re-run the same command to resume") from error
    finally:
        workers.close()


class _Look:
    """Makes sure that workers on nodes that joined the cluster later see the folders.

    Args:
        image: a file of the input.
    """

    def __init__(self, root: AnyPath, output: AnyPath, image: AnyPath) -> None:
        self._root, self._output, self._image = root, output, image
        self._seen = set(nodes_by_id())  # were looked at before anything was started

    def at(self, place: Place) -> None:
        """Look from the node of ``place``, unless that was done before.

        Raises:
            UsageError: it does not see one of them.
        """
        import ray

        if place.node in self._seen:
            return
        with token_in(self._output) as token:
            what = ray.get(place.actor.unseen.remote(token, self._image))
        refuse_unseen(what, self._root, self._output, nodes_by_id().get(place.node, place.node))
        self._seen.add(place.node)
