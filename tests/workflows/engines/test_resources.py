from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from labeler.errors import UsageError
from workflows.engines.resources import Node, Pool, fitting, plan_pool, takes_ray, visible_gpus
from workflows.settings.engine import EngineConfig

EIGHT_GPUS = [Node(96, 8)]
CPUS_ONLY = [Node(16, 0), Node(16, 0)]
HEAD_AND_FOUR = [Node(4, 0), *[Node(8, 1)] * 4]
MANY = 10_000


@pytest.mark.parametrize(
    ("nodes", "options", "shards", "pool"),
    [
        (EIGHT_GPUS, {}, MANY, Pool(8, 8, 1)),  # a worker takes no more CPUs than help it
        ([Node(32, 8)], {}, MANY, Pool(8, 3, 1)),  # two CPUs stay free for others
        ([Node(8, 8)], {}, MANY, Pool(8, 0.5, 1)),
        (EIGHT_GPUS, {"gpus_per_worker": 0.5}, MANY, Pool(16, 5, 0.5)),
        (EIGHT_GPUS, {"gpus_per_worker": 0.3, "workers": 24}, MANY, Pool(24, 3, 0.3)),
        (EIGHT_GPUS, {"gpus_per_worker": 2}, MANY, Pool(4, 8, 2)),
        (EIGHT_GPUS, {"workers": 3}, MANY, Pool(3, 8, 1)),
        (EIGHT_GPUS, {}, 5, Pool(5, 8, 1)),  # no more than there is work for
        (EIGHT_GPUS, {"gpus_per_worker": 0}, MANY, Pool(11, 8, 0)),
        (HEAD_AND_FOUR, {}, MANY, Pool(4, 8, 1)),  # the head has CPUs for others
        (CPUS_ONLY, {}, MANY, Pool(3, 8, 0)),
        (CPUS_ONLY, {"cpus_per_worker": 1}, MANY, Pool(30, 1, 0)),
        ([Node(4, 0)], {"workers": 2}, MANY, Pool(2, 1, 0)),
        ([Node(3, 0)], {}, MANY, Pool(1, 1, 0)),
    ],
)
def test_pools(nodes: list[Node], options: dict[str, float], shards: int, pool: Pool) -> None:
    assert plan_pool(nodes, EngineConfig("ray", **options), "auto", shards) == pool  # type: ignore[arg-type]
    assert fitting(nodes, pool) >= pool.workers


@pytest.mark.parametrize(
    ("nodes", "options", "device", "said"),
    [
        (EIGHT_GPUS, {"workers": 9}, "auto", "9 workers of 1 GPU .* Ray has 8 GPUs on 1 node, room for 8; .*--work"),
        (HEAD_AND_FOUR, {"gpus_per_worker": 2}, "auto", "1 worker of 2 GPUs .* does not fit: Ray has 4 GPUs on 5"),
        (CPUS_ONLY, {"gpus_per_worker": 1}, "auto", "Ray has 0 GPUs on 2 nodes, room for 0"),
        ([Node(8, 8)], {"cpus_per_worker": 1}, "auto", "Ray has 6 CPUs to give .* room for 6; .*--cpus-per-worker"),
        ([Node(4, 0)], {"workers": 3}, "auto", "3 workers of 1 CPU do not fit: Ray has 2 CPUs to give"),
        ([Node(2, 0)], {}, "auto", "1 worker of 1 CPU does not fit: Ray has 0 CPUs to give"),
        (EIGHT_GPUS, {"gpus_per_worker": 1}, "cpu", "--device cpu uses no GPU"),
        (CPUS_ONLY, {}, "cuda", "--device cuda needs a GPU"),
        (EIGHT_GPUS, {}, "cuda:1", "Ray assigns a GPU to each worker; use --device cuda"),
    ],
)  # fmt: skip
def test_what_is_missing(nodes: list[Node], options: dict[str, float], device: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan_pool(nodes, EngineConfig("ray", **options), device, MANY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "options", "shards", "pool"),
    [
        (EIGHT_GPUS, {"workers": "2-6"}, MANY, Pool(6, 8, 1, least=2)),
        (EIGHT_GPUS, {"workers": "2-16"}, MANY, Pool(16, 8, 1, least=2)),  # the rest is to come
        (EIGHT_GPUS, {"workers": "12-16", "cpus_per_worker": 6}, MANY, Pool(16, 6, 1, least=12)),
        ([Node(4, 0)], {"workers": "1-4", "gpus_per_worker": 1}, MANY, Pool(4, 1, 1, least=1)),
        (EIGHT_GPUS, {"workers": "4-6"}, 3, Pool(3, 8, 1, least=3)),  # no more than there is work for
    ],
)
def test_a_range_of_workers_on_a_cluster(nodes: list[Node], options: dict[str, str], shards: int, pool: Pool) -> None:
    engine = EngineConfig("ray", address="10.0.0.1:6379", **options)  # type: ignore[arg-type]
    assert plan_pool(nodes, engine, "auto", shards) == pool


def test_a_range_of_workers_on_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not grow: as many as fit, and no fewer than asked."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert plan_pool([Node(8, 2)], EngineConfig("ray", workers="1-4"), "auto", MANY) == Pool(2, 3, 1)
    with pytest.raises(UsageError, match=r"3 workers of 1 GPU .* room for 2"):
        plan_pool([Node(8, 2)], EngineConfig("ray", workers="3-4"), "auto", MANY)


@pytest.mark.parametrize(
    ("workers", "engine", "said"),
    [
        ("8-2", "ray", "--workers 8-2: the smaller number comes first, as in 2-8"),
        ("0-2", "ray", "--workers must be a whole number, 1 or more, or a range such as 2-8, not '0-2'"),
        ("2-", "ray", "or a range such as 2-8, not '2-'"),
        ("2-4-8", "ray", "or a range such as 2-8, not '2-4-8'"),
        ("-3", "ray", "or a range such as 2-8, not '-3'"),
        ("many", "ray", "or a range such as 2-8, not 'many'"),
        ("2-8", "local", "--workers 2-8 is for Ray; add --engine ray"),
    ],
)
def test_ranges_that_cannot_be_meant(workers: str, engine: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        EngineConfig(engine, workers=workers)


def test_models_on_the_cpu_leave_gpus_alone() -> None:
    assert plan_pool(EIGHT_GPUS, EngineConfig("ray"), "cpu", MANY).gpus == 0


@pytest.mark.parametrize(
    "options",
    [{"workers": 0}, {"gpus_per_worker": -1}, {"gpus_per_worker": 1.5}, {"cpus_per_worker": 0}],
)
def test_what_cannot_be_meant(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(options)).replace("_", "-")):
        EngineConfig("ray", **options)  # type: ignore[arg-type]


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a driver with two GPUs, one of them cut into two instances."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\necho '  MIG 3g.71gb Device 0: (UUID: MIG-1)'\n"
        "echo 'GPU 1: NVIDIA H200 (UUID: GPU-2)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("chosen", "count"), [(None, 2), ("0,1", 2), ("1", 1), ("", 0), ("-1", 0), ("0,-1,1", 1), ("0,1,2,3", 2)]
)
def test_visible_gpus(two_gpus: None, monkeypatch: pytest.MonkeyPatch, chosen: str | None, count: int) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == count


@pytest.mark.parametrize(
    ("options", "device", "shards", "expected"),
    [
        ({}, "auto", 9, True),  # two GPUs are visible
        ({}, "cpu", 9, False),
        ({}, "cuda:1", 9, False),
        ({}, "auto", 1, False),  # one shard is work for one
        ({"workers": 1}, "auto", 9, False),
        ({"workers": 2}, "cpu", 9, True),
        ({"workers": 2}, "cpu", 1, False),
        ({"workers": "1-2"}, "cpu", 9, True),
        ({"workers": "1-1"}, "auto", 9, False),
        ({"address": "10.0.0.1:6379"}, "cpu", 1, True),
        ({"address": "local"}, "cpu", 9, False),
        ({"engine": "ray"}, "cpu", 1, True),
        ({"engine": "local", "workers": 8}, "auto", 9, False),
    ],
)
def test_who_labels(
    two_gpus: None,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
    device: str,
    shards: int,
    expected: bool,
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert takes_ray(EngineConfig(**options), device, shards) is expected  # type: ignore[arg-type]


def test_the_address_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert takes_ray(EngineConfig(), "cpu", 1)
    assert EngineConfig(address="10.0.0.2:6379").cluster_address == "10.0.0.2:6379"
