"""Run calls on a Ray cluster: what a run that labeled very much there has still to do with its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from labeler.files.processes import Spread, on_all_cores
from workflows.engines.ray_cluster import joined_ray, nodes_alive
from workflows.settings.engine import EngineConfig

WORTH_IT = 10_000  # images; with fewer, joining the cluster again takes longer than the cores of this machine
AT_ONCE = 64  # what the calls of more CPUs give would fill the memory of this process


def on_cluster(engine: EngineConfig, images: int) -> Spread:
    """``Spread`` over the CPUs of the cluster that has just labeled ``images``.

    If these are few, or if Ray was started on this machine for the run alone, it is over the cores of this machine.
    """
    import ray

    is_there = engine.cluster_address is not None or ray.is_initialized()
    return partial(_on_cpus, engine) if is_there and images >= WORTH_IT else on_all_cores


@contextmanager
def _on_cpus(
    engine: EngineConfig, call: Callable[..., Any], is_worth_it: bool, /
) -> Iterator[tuple[Callable[..., Any], int]]:
    if not is_worth_it:
        yield call, 1
        return
    with joined_ray(engine.cluster_address):
        import ray

        # Calls reserve no CPU, since they would wait without a word for as long as other jobs hold them all.
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": "SPREAD"}
        if environment := engine.environment:
            options["runtime_env"] = environment
        remote = ray.remote(**options)(_called)
        kept = ray.put(call)

        def elsewhere(*args: Any, **kwargs: Any) -> Any:
            try:
                return ray.get(remote.remote(kept, args, kwargs))
            except ray.exceptions.RayError:  # whatever went wrong there: what goes wrong here is what counts
                return call(*args, **kwargs)

        cpus = sum(int(node.cpus) for node in nodes_alive())
        yield elsewhere, max(1, min(cpus, AT_ONCE))


def _called(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return call(*args, **kwargs)
