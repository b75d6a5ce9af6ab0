"""Settings of the engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from labeler.errors import UsageError


@dataclass(frozen=True)
class EngineConfig:
    """Who labels, as it was asked for; None leaves it to the engine.

    Attributes:
        engine: ``auto`` takes Ray for several workers, several GPUs or a cluster.
        address: of a Ray cluster, ``host:port`` or ``auto``; by default that of the variable ``RAY_ADDRESS``.
        workers: processes that hold the models.
        gpus_per_worker: may be a share of one.
        cpus_per_worker: threads that a worker's models take.
    """

    engine: Literal["auto", "local", "ray"] = "auto"
    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    cpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be 1 or more, not {self.workers}")
        gpus = self.gpus_per_worker or 0
        if gpus < 0 or (gpus > 1 and gpus % 1):
            raise UsageError(f"--gpus-per-worker must be 0, a share of 1, or a whole number, not {gpus}")
        if self.cpus_per_worker is not None and self.cpus_per_worker <= 0:
            raise UsageError(f"--cpus-per-worker must be above 0, not {self.cpus_per_worker}")

    @property
    def cluster_address(self) -> str | None:
        """None for a Ray of this machine's own."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        return None if address == "local" else address
