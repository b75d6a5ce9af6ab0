"""The workers of the Ray engine, as Ray Data runs them."""

from __future__ import annotations

import asyncio
import os
import pickle
import traceback
from collections import Counter
from collections.abc import Iterator
from inspect import signature
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from labeler.errors import DeviceError, LabelerError, ModelError
from labeler.files.storage import info
from ontologies import OntologyError
from workflows.engines.resources import Pool
from workflows.engines.workers import Worker, WorkerConfig
from workflows.run.attempts import CRASHES, Attempts
from workflows.run.shard import Shard
from workflows.run.shards import ShardReport, report_of

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SHARDS_PER_WORKER = 2  # at a time: one being labeled, one being read
SHARDS_PER_BLOCK = 256


def label_on_workers(table: pa.Table, config: WorkerConfig, pool: Pool, attempts: AnyPath) -> Iterator[list[bytes]]:
    """Run the workers with Ray Data; yields the pickled outcome of each shard, in any order."""
    import ray.data

    blocks = [table.slice(start, SHARDS_PER_BLOCK) for start in range(0, len(table), SHARDS_PER_BLOCK)]
    data = ray.data.from_arrow(blocks)
    data.context.enable_progress_bars = False
    data.context.max_errored_blocks = -1  # the next round handles lost shards
    data.context.execution_no_progress_timeout_s = -1  # a shard may take any time
    concurrency: dict[str, Any] = {"max_concurrent_calls_per_actor": SHARDS_PER_WORKER}
    older: dict[str, Any] = {}
    if not concurrency.keys() <= signature(ray.data.ActorPoolStrategy).parameters.keys():
        concurrency, older = {}, {"max_concurrency": SHARDS_PER_WORKER}
    # Blocks of one row, created lazily, since a block takes more memory than the paths in it.
    data = data.repartition(target_num_rows_per_block=1).map_batches(
        _RayWorker,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=pool.workers, max_tasks_in_flight_per_actor=SHARDS_PER_WORKER, **concurrency
        ),
        fn_constructor_args=(config, pool, attempts),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        **({"runtime_env": dict(pool.environment)} if pool.environment else {}),
        **older,
    )
    for answer in data.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield answer.column("outcome").to_pylist()


class _RayWorker:
    """The interface of a worker to Ray Data: takes one shard, returns one row with its report or error."""

    def __init__(self, config: WorkerConfig, pool: Pool, attempts: AnyPath) -> None:
        import ray

        os.environ["OMP_NUM_THREADS"] = str(max(1, int(pool.cpus)))  # before torch is imported
        if not pool.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # some versions of Ray do not hide GPUs from workers without one
        self._name = str(ray.get_runtime_context().get_actor_id())
        starting = Attempts(attempts / f"worker-{self._name}.json")
        self._worker: Worker | None = None
        try:
            if starting.unfinished > CRASHES:
                raise ModelError("workers are killed while they load the models; is there enough memory?")
            starting.begin()
            self._worker = Worker(config, config.load_stages())
            starting.done()
        except Exception as error:
            self._failure = error

    async def __call__(self, rows: pa.Table) -> pa.Table:
        (row,) = rows.column("shard").to_pylist()
        shard: Shard = pickle.loads(row)
        try:
            if self._worker is None:
                raise self._failure
            if info(shard.records_path):  # a worker wrote it, but died before it could report
                report = report_of(shard)
            else:
                report = await asyncio.wrap_future(self._worker.submit(shard))
            report.workers = Counter({self._name: report.images})
            outcome: ShardReport | Exception = report
        except DeviceError:
            os._exit(1)  # only a new process can use the device again; the notes in run/attempts name the shard
        except (LabelerError, OntologyError, OSError) as error:
            outcome = error
        except Exception:
            outcome = RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
        return pa.table({"outcome": [pickle.dumps((shard.index, outcome))]})
