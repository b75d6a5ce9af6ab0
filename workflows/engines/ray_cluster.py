"""Join a Ray cluster or start Ray on this machine, and check the resources and the folders of its nodes."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.files.frames import file_path
from labeler.files.storage import info, read_bytes, remove, write_bytes
from labeler.own_packages import check_own_packages
from workflows.engines.resources import RESERVED_CPUS, Node, Pool
from workflows.run.shard import Shard

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

CONNECT_SECONDS, PROBE_SECONDS = 5.0, 60.0
MAX_PORT = 2**16 - 1
HTTP2_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty frame of type 4; gRPC, which Ray speaks, starts with it
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HTTP2_SETTINGS
OBJECT_STORE_BYTES = 2**28  # for a local Ray, which stores paths and figures but no pixels
Say = Callable[[str], None]


@contextmanager
def joined_ray(address: str | None) -> Iterator[None]:
    """Use the Ray that this process has already joined, or join the cluster at ``address``, or start Ray here."""
    # Read when Ray is imported. Without it, Ray retries for 13 minutes if something else answers at the address.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")  # Ray prints screenfuls about dead workers
    if address:
        check_address(address)
    check_own_packages([os.getcwd(), *sys.path])  # Ray's workers search the current folder first
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
            signal.signal(signal.SIGTERM, terminated)  # Ray's handler prints a stack trace and exits
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise UsageError(f"no Ray cluster answers at {address or 'this machine'}: {one_line(error):.300}") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str, connect: bool = True) -> None:
    """Check that Ray answers at ``address``; Ray itself would retry for minutes with an unclear message.

    Args:
        connect: False checks only the form of ``address``.

    Raises:
        UsageError: it is no address, or Ray does not answer there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > MAX_PORT or "/" in host:
        raise UsageError(
            f"--address {address}: give HOST:PORT of the cluster's head, or auto on one of its nodes; "
            "`labeler submit` takes a URL"
        )
    if not connect:
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                connection.sendall(HTTP2_GREETING)
                if connection.recv(len(HTTP2_SETTINGS))[3:4] != HTTP2_SETTINGS[3:4]:
                    raise OSError("something else is there")
    except OSError as error:
        raise UsageError(f"no Ray cluster answers at {address}: {error.strerror or error}") from None


def checked_environment(environment: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """``environment``, which Ray accepts as a ``runtime_env``.

    Raises:
        UsageError: Ray does not.
    """
    if environment is None:
        return None
    from ray.runtime_env import RuntimeEnv

    try:
        RuntimeEnv(**environment)
    except Exception as error:  # of many classes
        raise UsageError(f"--labeler-env: Ray does not accept it: {one_line(error):.300}") from error
    return environment


def _usable_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _alive() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def nodes_alive() -> list[Node]:
    resources = [node["Resources"] for node in _alive()]
    return [Node(has.get("CPU", 0.0), has.get("GPU", 0.0)) for has in resources]


def say_if_taken(pool: Pool, say: Say) -> None:
    """Tell the user if other jobs hold the resources, since Ray waits for them silently."""
    import ray

    free = ray.available_resources()
    for name, needed in (("CPU", pool.workers * pool.cpus), ("GPU", pool.workers * pool.gpus)):
        if free.get(name, 0.0) < needed:
            say(f"{free.get(name, 0.0):g} of the {needed:g} {name}s needed are free; waiting for the rest")


def check_shared(root: AnyPath, output: AnyPath, first: Shard) -> None:
    """Check that every node of the cluster can see the input and the output.

    Args:
        first: a shard that is to be labeled.

    Raises:
        UsageError: a node cannot, or does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = nodes_by_id()
    if len(nodes) < 2:
        return
    image = an_image(root, first)
    try:
        with token_in(output) as token:
            look = ray.remote(num_cpus=0, max_retries=0)(unseen)
            there = {node: NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes}
            asked = {look.options(scheduling_strategy=there[node]).remote(token, image): node for node in nodes}
            _, silent = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
            if silent:
                raise UsageError(f"node {nodes[asked[silent[0]]]} of the cluster does not answer; is it overloaded?")
            for answer, node in asked.items():
                with suppress(ray.exceptions.TaskUnschedulableError):  # the node has left the cluster
                    refuse_unseen(ray.get(answer), root, output, nodes[node])
    except ray.exceptions.RayError as error:
        raise UsageError(f"a node of the cluster cannot run labeler: {last_line(error)}") from error


@contextmanager
def token_in(output: AnyPath) -> Iterator[AnyPath]:
    """A file in the output, for other nodes to look for."""
    token = output / "run" / f"seen-by-all-{uuid.uuid4().hex}"
    write_bytes(token, token.name.encode())
    try:
        yield token
    finally:
        remove(token)


def an_image(root: AnyPath, shard: Shard) -> AnyPath:
    """An image of ``shard`` that is there, or else the input itself."""
    return next((path for i in shard.image_ids if info(path := file_path(root, i))), root)


def unseen(token: AnyPath, image: AnyPath) -> str:
    """Which of ``output`` and ``input`` this node cannot see; empty if it sees both."""
    try:
        if read_bytes(token).decode() != token.name:
            return "output"
    except OSError:
        return "output"
    return "" if info(image) else "input"


def refuse_unseen(what: str, root: AnyPath, output: AnyPath, node: str) -> None:
    """Raise if ``what``, the answer of ``unseen``, says that a node does not see a folder.

    Raises:
        UsageError: it does not.
    """
    if what:
        raise UsageError(
            f"{output if what == 'output' else root} is not visible to node {node}: on a cluster, put input and output "
            "where all nodes can see them, such as NFS or a store (s3://…)"
        )


def nodes_by_id() -> dict[str, str]:
    """The addresses of the nodes that are alive."""
    return {node["NodeID"]: node["NodeManagerAddress"] for node in _alive()}


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
