"""How many workers fit on a cluster. Ray waits silently for resources that it does not have, so check first."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labeler.errors import UsageError
from workflows.settings.engine import EngineConfig

RESERVED_CPUS = 2  # for the process that starts the run, and what Ray runs beside the workers
CPUS_PER_WORKER = 8  # default maximum; more hardly speed up a model
CPU_CHOICES = tuple(float(cpus) for cpus in range(CPUS_PER_WORKER, 0, -1))
SHARES_OF_CPU = (0.5, 0.25)  # for workers with a GPU


@dataclass(frozen=True)
class Node:
    """The resources of one node of the cluster."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class Pool:
    """A number of equal workers.

    Attributes:
        workers: how many there are to be, at most.
        cpus, gpus: per worker.
        environment: Ray's ``runtime_env`` of the workers.
        least: with how many the run begins, if it grows with its cluster; None for a fixed number.
    """

    workers: int
    cpus: float
    gpus: float
    environment: Mapping[str, Any] | None = None
    least: int | None = None

    def of(self, workers: int) -> Pool:
        """So many of these workers."""
        return replace(self, workers=workers)

    def __str__(self) -> str:
        gpus = f"{self.gpus:g} GPU{'s' if self.gpus > 1 else ''} and " if self.gpus else ""
        cpus = f"{self.cpus:g} CPU{'s' if self.cpus > 1 else ''}"
        least = f"{self.least} to " if self.least not in (None, self.workers) else ""
        return f"{least}{self.workers} worker{'s' if self.workers > 1 else ''} of {gpus}{cpus}"


def takes_ray(config: EngineConfig, device: str, shards: int) -> bool:
    """Whether to use Ray for this many ``shards``; starting Ray does not pay off for a single worker."""
    if config.engine != "auto":
        return config.engine == "ray"
    if config.cluster_address or config.labeler_env:
        return True
    if shards < 2 or config.most_workers == 1:
        return False
    return config.workers is not None or (device in ("auto", "cuda") and visible_gpus() > 1)


def visible_gpus() -> int:
    """The number of NVIDIA GPUs that CUDA would find here, without importing torch."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return 0
    there = sum(line.startswith("GPU ") for line in listed.splitlines())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return there
    named = chosen.split(",")
    valid = next((i for i, name in enumerate(named) if name.strip() in ("", "-1")), len(named))
    return min(there, valid)


def plan_pool(nodes: Sequence[Node], config: EngineConfig, device: str, shards: int) -> Pool:
    """The workers to start, at most one per shard.

    A range of workers on a cluster may be more than fit now. On this machine alone it is cut to what fits.

    Args:
        device: as in ``ModelConfig``.

    Raises:
        UsageError: there are too few resources; the message says what is missing.
    """
    gpus = config.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if _takes_gpu(device) and any(node.gpus for node in nodes) else 0.0
    _check_device(device, gpus)
    choices = CPU_CHOICES + (SHARES_OF_CPU if gpus else ())
    if config.cpus_per_worker is not None:
        choices = (config.cpus_per_worker,)
    if config.most_workers is None:
        # As many as the GPUs allow or, without GPUs, as many as the CPUs allow.
        wanted = _fitting(nodes, 0.0, gpus) if gpus else max(1, _fitting(nodes, _first_fitting(nodes, choices), 0.0))
    else:
        wanted = config.most_workers
    most = max(1, min(wanted, shards))
    least = min(config.least_workers or most, most)
    grows = config.least_workers is not None and config.cluster_address is not None
    for workers in (most, least) if grows else range(most, least - 1, -1):
        for cpus in choices:
            if _fitting(nodes, cpus, gpus) >= workers:
                return Pool(most if grows else workers, cpus, gpus, least=least if grows else None)
    if grows:  # the nodes are still to come
        return Pool(most, config.cpus_per_worker or 1.0, gpus, least=least)
    raise UsageError(_what_is_missing(nodes, Pool(least, choices[-1], gpus)))


def fitting(nodes: Sequence[Node], pool: Pool) -> int:
    """How many workers of the pool's size fit on the nodes."""
    return _fitting(nodes, pool.cpus, pool.gpus)


def _fitting(nodes: Sequence[Node], cpus: float, gpus: float) -> int:
    """How many such workers fit, each on a single node, with CPUs left for others."""
    rooms = [_room(node.cpus, node.gpus, cpus, gpus) for node in nodes]
    # Of one node; assume the node where that costs the fewest workers.
    spared = [_room(node.cpus - RESERVED_CPUS, node.gpus, cpus, gpus) for node in nodes]
    return max((sum(rooms) - room + less for room, less in zip(rooms, spared, strict=True)), default=0)


def _room(node_cpus: float, node_gpus: float, cpus: float, gpus: float) -> int:
    limits = [node_cpus / cpus] if cpus else []
    if gpus:  # Ray gives away shares of a single GPU only
        limits.append(node_gpus // gpus if gpus >= 1 else node_gpus * int(1 / gpus + 1e-6))
    return max(0, int(min(limits) + 1e-6))


def _first_fitting(nodes: Sequence[Node], choices: Sequence[float]) -> float:
    return next((cpus for cpus in choices if _fitting(nodes, cpus, 0.0)), choices[-1])


def _takes_gpu(device: str) -> bool:
    return device == "auto" or device.startswith("cuda")


def _check_device(device: str, gpus: float) -> None:
    if gpus and not _takes_gpu(device):
        raise UsageError(f"--device {device} uses no GPU; use --gpus-per-worker 0 or --device cuda")
    if not gpus and device.startswith("cuda"):
        raise UsageError(f"--device {device} needs a GPU for each worker, and there is none; use --device cpu")
    if ":" in device:
        raise UsageError(f"--device {device}: Ray assigns a GPU to each worker; use --device cuda")


def _what_is_missing(nodes: Sequence[Node], pool: Pool) -> str:
    cpus, gpus = sum(node.cpus for node in nodes) - RESERVED_CPUS, sum(node.gpus for node in nodes)
    where = f"on {len(nodes)} node{'s' if len(nodes) != 1 else ''}"
    if pool.gpus and _fitting(nodes, 0.0, pool.gpus) < pool.workers:
        given, way_out = f"{gpus:g} GPUs", "use fewer --workers or less --gpus-per-worker"
    else:
        given, way_out = f"{max(cpus, 0):g} CPUs to give", "use fewer --workers or less --cpus-per-worker"
    do = "does" if pool.workers == 1 else "do"
    return f"{pool} {do} not fit: Ray has {given} {where}, room for {fitting(nodes, pool)}; {way_out}"
