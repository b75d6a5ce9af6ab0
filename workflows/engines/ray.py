"""Engines: who labels the shards. An engine takes shards and yields one report a shard, whatever the order.

The local one works in this process. Ray Data's spreads the shards over workers, each with the models loaded once; only
paths go to them and only figures come back. A worker that dies is started again by Ray, and the shards it had are given
out anew once the others are through: their records tell which are done, the attempts beside them (``attempts.py``) what
a worker died of. Ray is imported when it is needed, and here alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import socket
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from labeler.errors import DeviceError, LabelerError, ModelError, RunError, UsageError
from labeler.files.storage import info, read_bytes, remove, write_bytes
from ontologies import OntologyError
from workflows.engines.resources import RESERVED_CPUS, Node, Pool, fitting, plan_pool
from workflows.engines.workers import Worker, WorkerConfig
from workflows.run.attempts import CRASHES, Attempts
from workflows.run.folder import Shard
from workflows.run.shards import ShardReport, report_of
from workflows.settings.engine import EngineConfig

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SHARDS_A_WORKER = 2  # in its hands: one being labeled, one being read
SHARDS_A_BLOCK = 256
FRUITLESS_ROUNDS = 2
CONNECT_SECONDS, PROBE_SECONDS = 5.0, 60.0
CHECK_SECONDS, LOST_SECONDS = 5.0, 60.0  # how often nodes are counted; how long there may be none for a worker
HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of type 4; Ray speaks gRPC, which opens with one
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HTTP2_SETTINGS
Say = Callable[[str], None]
OBJECT_STORE_BYTES = 2**28  # of a Ray of this machine's own: paths and figures, no pixels


@contextmanager
def ray_engine(
    shards: Sequence[Shard], config: WorkerConfig, engine: EngineConfig, output: AnyPath, say: Say
) -> Iterator[Iterator[ShardReport]]:
    """Ray, joined or started, and the reports to be taken while it is there.

    Raises:
        UsageError: no cluster is at the address, it lacks what was asked for, or its nodes do not share the folders.
        RunError: no worker can go on.
    """
    with _ray(engine.cluster_address):
        pool = plan_pool(_nodes(), engine, config.model.device, len(shards))
        _check_shared(config.root, output, shards)
        device = "cuda" if pool.gpus and config.model.device == "auto" else config.model.device
        detector, segmenter = _absolute(config.model.detector), _absolute(config.model.segmenter)
        config = replace(config, model=replace(config.model, detector=detector, segmenter=segmenter, device=device))
        if config.tagging and config.tagging.tagger_model:
            tagger_model = _absolute(config.tagging.tagger_model)
            config = replace(config, tagging=replace(config.tagging, tagger_model=tagger_model))
        say(f"starting {pool}")
        _say_if_taken(pool, say)
        with closing(_rounds(shards, config, pool, say)) as reports:
            yield reports


# ---------------------------------------------------------------- the cluster


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    """The Ray that this process has joined already, else the cluster at ``address``, else one of this machine's own."""
    # Read when Ray is imported: one try, not 13 minutes of them, at an address where something else answers.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")  # what Ray says of dead workers fills a screen
    if address:
        _check_address(address)
    import ray

    if ray.is_initialized():
        yield
        return
    where: dict[str, Any] = {"address": address}
    if not address:
        where = {"address": "local", "num_cpus": _usable_cpus() + RESERVED_CPUS, "include_dashboard": False}
        where["object_store_memory"] = OBJECT_STORE_BYTES
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, log_to_driver=False, logging_level=logging.CRITICAL)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)  # Ray's own handler prints a stack and ends the process
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(f"no Ray cluster answers at {address or 'this machine'}: {_one_line(error):.300}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Ray itself would try for minutes, and say little."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(
            f"--address {address}: give HOST:PORT of the cluster's head, or auto on one of its nodes; "
            "`labeler submit` takes a URL"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.sendall(HTTP2_GREETING)
                if connection.recv(len(HTTP2_SETTINGS))[3:4] != HTTP2_SETTINGS[3:4]:
                    raise OSError("something else is there")
    except OSError as error:
        raise UsageError(f"no Ray cluster answers at {address}: {error.strerror or error}") from None


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _nodes() -> list[Node]:
    resources = [node["Resources"] for node in _alive()]
    return [Node(has.get("CPU", 0.0), has.get("GPU", 0.0)) for has in resources]


def _say_if_taken(pool: Pool, say: Say) -> None:
    """Other jobs of the cluster may hold what is there; Ray waits for them."""
    import ray

    free = ray.available_resources()
    for name, needed in (("CPU", pool.workers * pool.cpus), ("GPU", pool.workers * pool.gpus)):
        if free.get(name, 0.0) < needed:
            say(f"{free.get(name, 0.0):g} of the {needed:g} {name}s needed are free; waiting for the others")


def _check_shared(root: AnyPath, output: AnyPath, shards: Sequence[Shard]) -> None:
    """Refuse folders that not every node of the cluster sees.

    Raises:
        UsageError: a node does not see them, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _alive()}
    if len(nodes) < 2:
        return
    token = output / "run" / f"seen-by-all-{uuid.uuid4().hex}"
    image = next((path for i in shards[0].image_ids if info(path := root / i)), root)
    write_bytes(token, token.name.encode())
    try:
        look = ray.remote(num_cpus=0, max_retries=0)(_unseen)
        there = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
        asked = {look.options(scheduling_strategy=there[node]).remote(token, image): node for node in nodes}
        _, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
        if silent:
            raise UsageError(f"node {nodes[asked[silent[0]]]} of the cluster does not answer; is it overloaded?")
        for answer, node in asked.items():
            if unseen := ray.get(answer):
                raise UsageError(
                    f"{output if unseen == 'output' else root} is not seen by node {nodes[node]}: on a cluster, input "
                    "and output must lie where all nodes see them, as on NFS or in a store (s3://…)"
                )
    except ray.exceptions.RayError as error:
        raise UsageError(f"a node of the cluster cannot run labeler: {_last_line(error)}") from error
    finally:
        remove(token)


def _unseen(token: AnyPath, image: AnyPath) -> str:
    """What this node does not see."""
    try:
        if read_bytes(token).decode() != token.name:
            return "output"
    except OSError:
        return "output"
    return "" if info(image) else "input"


# ---------------------------------------------------------------- giving out shards


def _rounds(shards: Sequence[Shard], config: WorkerConfig, pool: Pool, say: Say) -> Generator[ShardReport, None, None]:
    """Give out shards until all are reported: one round does, unless workers are lost with their nodes."""
    import ray

    waiting = {shard.index: shard for shard in shards}
    fruitless = 0
    while waiting:
        before = _progress(waiting.values())
        cause = "workers were lost"
        try:
            yield from _round(waiting, config, pool)
        except ray.exceptions.RayError as error:
            cause = _last_line(error)
        for shard in [shard for shard in waiting.values() if info(shard.records_path)]:
            del waiting[shard.index]  # written, but its report got lost
            yield report_of(shard)
        fruitless = fruitless + 1 if _progress(waiting.values()) == before else 0
        if fruitless == FRUITLESS_ROUNDS:
            raise RunError(f"Ray finishes no shard any more: {cause}")
        if waiting:
            pool = replace(pool, workers=max(1, min(pool.workers, len(waiting), fitting(_nodes(), pool))))
            say(f"{cause}; going on with {pool}")


def _progress(waiting: Collection[Shard]) -> tuple[int, int]:
    """Changes with every shard that is done and with every attempt that ends its worker."""
    return len(waiting), sum(Attempts(shard.attempts_path).total for shard in waiting)


def _round(waiting: dict[int, Shard], config: WorkerConfig, pool: Pool) -> Generator[ShardReport, None, None]:
    """Reports of the ``waiting`` shards, which are taken out, as long as there are workers to come back for them.

    Raises:
        RunError: for ``LOST_SECONDS``, no node has had room for a worker.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Ray Data runs in a process of its own: with that one, it and its workers end at once, whatever they wait for.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    give_out = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_give_out)
    table = pa.table({"shard": [pickle.dumps(shard) for shard in waiting.values()]})
    outcomes = give_out.remote(table, config, pool, next(iter(waiting.values())).attempts_path.parent)
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
            lost = pool.workers - fitting(_nodes(), pool)
            if lost < pool.workers:
                last_room = time.monotonic()
            elif time.monotonic() - last_room > LOST_SECONDS:
                raise RunError(f"no node has room any more for one of {pool}")
            # A worker that is gone with its node keeps the shards it had. When no others are left, they must move.
            if lost > 0 and len(waiting) <= lost * SHARDS_A_WORKER and lost < pool.workers:
                return
    except StopIteration:
        return
    finally:
        ray.cancel(outcomes, force=True)


def _give_out(table: pa.Table, config: WorkerConfig, pool: Pool, attempts: AnyPath) -> Iterator[list[bytes]]:
    """Run the workers over the shards by Ray Data; yields what came of each, in no order."""
    import ray.data

    blocks = [table.slice(start, SHARDS_A_BLOCK) for start in range(0, len(table), SHARDS_A_BLOCK)]
    data = ray.data.from_arrow(blocks)
    data.context.enable_progress_bars = False
    data.context.max_errored_blocks = -1  # what gets lost is for the next round
    data.context.execution_no_progress_timeout_s = -1  # a shard takes as long as it takes
    concurrency: dict[str, Any] = {"max_concurrent_calls_per_actor": SHARDS_A_WORKER}
    older: dict[str, Any] = {}
    if not concurrency.keys() <= signature(ray.data.ActorPoolStrategy).parameters.keys():
        concurrency, older = {}, {"max_concurrency": SHARDS_A_WORKER}
    # Blocks of one row, made as they are needed: each costs more memory than the paths in it.
    data = data.repartition(target_num_rows_per_block=1).map_batches(
        _RayWorker,
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=pool.workers, max_tasks_in_flight_per_actor=SHARDS_A_WORKER, **concurrency
        ),
        fn_constructor_args=(config, pool, attempts),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        **older,
    )
    for answer in data.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield answer.column("outcome").to_pylist()


class _RayWorker:
    """A worker as Ray Data calls it: one shard in, one row of figures or the error out."""

    def __init__(self, config: WorkerConfig, pool: Pool, attempts: AnyPath) -> None:
        import ray

        os.environ["OMP_NUM_THREADS"] = str(max(1, int(pool.cpus)))  # torch is not loaded yet
        if not pool.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # not every version of Ray hides what it did not give
        self._name = str(ray.get_runtime_context().get_actor_id())
        starting = Attempts(attempts / f"worker-{self._name}.json")
        self._worker: Worker | None = None
        try:
            if starting.unfinished > CRASHES:
                raise ModelError("a worker is killed whenever it loads the models; is there enough memory for them?")
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
            if info(shard.records_path):  # by a worker that died before it could say so
                report = report_of(shard)
            else:
                report = await asyncio.wrap_future(self._worker.submit(shard))
            report.workers = Counter({self._name: report.images})
            outcome: ShardReport | Exception = report
        except DeviceError:
            os._exit(1)  # a new process gets the device back; the attempts tell what this one was at
        except (LabelerError, OntologyError, OSError) as error:
            outcome = error
        except Exception:
            outcome = RuntimeError(f"a worker failed:\n{traceback.format_exc()}")
        return pa.table({"outcome": [pickle.dumps((shard.index, outcome))]})


def _absolute(model: str) -> str:
    """Workers have working directories of their own."""
    path = os.path.expanduser(model)
    return os.path.abspath(path) if os.path.exists(path) else model


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
