"""Settings of the engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from labeler.errors import UsageError
from labeler.setting import check, setting

ENGINES = ("auto", "local", "ray")
GROUP = "engine"


@dataclass(frozen=True)
class EngineConfig:
    """What labels the shards; None leaves the choice to the engine.

    Attributes:
        engine: ``auto`` takes Ray for several workers, several GPUs or a cluster.
        gpus_per_worker: may be a share of one.
        cpus_per_worker: threads that a worker's models use.
    """

    engine: Literal["auto", "local", "ray"] = setting(
        "auto", "auto: Ray for several workers or GPUs or a cluster, else one process", choices=ENGINES, group=GROUP
    )
    address: str | None = setting(
        None,
        "address of a running Ray cluster, or auto",
        metavar="HOST:PORT",
        group=GROUP,
        unset="RAY_ADDRESS, or no cluster",
    )
    workers: int | None = setting(
        None, "worker processes, each with its own models", metavar="N", group=GROUP, least=1, unset="one per GPU"
    )
    gpus_per_worker: float | None = setting(
        None,
        "GPUs per worker: 1, a share such as 0.5, or 0 to run the models on CPUs",
        metavar="N",
        group=GROUP,
        least=0,
        unset="1 if there is a GPU",
    )
    cpus_per_worker: float | None = setting(
        None, "CPUs per worker, for its models", metavar="N", group=GROUP, above=0, unset="up to 8"
    )

    def __post_init__(self) -> None:
        check(self)
        gpus = self.gpus_per_worker or 0
        if gpus > 1 and gpus % 1:
            raise UsageError(f"--gpus-per-worker must be 0, a share of 1, or a whole number, not {gpus}")

    @property
    def cluster_address(self) -> str | None:
        """None for a Ray of this machine's own."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        return None if address == "local" else address
