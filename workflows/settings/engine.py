"""Settings of the engine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labeler.errors import UsageError
from labeler.files.credentials import without_secrets
from labeler.setting import check, setting
from ontologies.documents import MAX_BYTES, DocumentError, parse_json, parse_toml, parse_yaml, read_at_most

ENGINES = ("auto", "local", "ray")
GROUP = "engine"
INSTALLERS = (
    "conda",
    "container",
    "image_uri",
    "pip",
    "py_modules",
    "uv",
    "working_dir",
)  # parts of a runtime_env that bring packages


@dataclass(frozen=True)
class EngineConfig:
    """What labels the shards; None leaves the choice to the engine.

    Attributes:
        workers: a number, or a range such as ``2-8``: the run starts with two, and takes up to eight as the cluster
            grows.
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
    workers: int | str | None = setting(
        None,
        "worker processes, each with its own models; MIN-MAX grows with the cluster",
        metavar="N|MIN-MAX",
        group=GROUP,
        least=1,
        unset="one per GPU",
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

    labeler_env: str | None = setting(
        None,
        "runtime_env of Ray for the workers, as JSON or a JSON, TOML or YAML file; for packages with pinned versions",
        metavar="FILE|JSON",
        group=GROUP,
        unset="none",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.labeler_env is not None and self.engine == "local":
            raise UsageError("--labeler-env is for the workers of Ray; add --engine ray")
        if isinstance(self.workers, str):
            least, most = self._range(self.workers)
            if least > most:
                raise UsageError(f"--workers {self.workers}: the smaller number comes first, as in {most}-{least}")
            if self.engine == "local":
                raise UsageError(f"--workers {self.workers} is for Ray; add --engine ray, or --address of a cluster")
        gpus = self.gpus_per_worker or 0
        if gpus > 1 and gpus % 1:
            raise UsageError(f"--gpus-per-worker must be 0, a share of 1, or a whole number, not {gpus}")

    @staticmethod
    def _range(text: str) -> tuple[int, int]:
        least, _, most = text.partition("-")
        return int(least), int(most)

    @property
    def least_workers(self) -> int | None:
        """The workers that a run with a range of them starts with; None without a range."""
        return self._range(self.workers)[0] if isinstance(self.workers, str) else None

    @property
    def most_workers(self) -> int | None:
        """The workers at most; None leaves the choice to the engine."""
        return self._range(self.workers)[1] if isinstance(self.workers, str) else self.workers

    @property
    def environment(self) -> dict[str, Any] | None:
        """The ``runtime_env`` of ``labeler_env``.

        Raises:
            UsageError: it cannot be read, or is no table.
        """
        return None if self.labeler_env is None else _environment(self.labeler_env)

    @property
    def cluster_address(self) -> str | None:
        """None for a Ray of this machine's own."""
        address = self.address or os.environ.get("RAY_ADDRESS")
        return None if address == "local" else address


def installed(environment: Mapping[str, Any]) -> str:
    """What an environment brings to a worker, as JSON without passwords; empty if that is nothing."""
    parts = {name: environment[name] for name in INSTALLERS if name in environment}
    return without_secrets(json.dumps(parts, sort_keys=True)) if parts else ""


def _environment(text: str) -> dict[str, Any]:
    parsers = {".toml": parse_toml, ".yaml": parse_yaml, ".yml": parse_yaml}
    try:
        if text.lstrip().startswith("{"):
            content = parse_json(text)
        else:
            path = Path(text).expanduser()
            content = parsers.get(path.suffix.lower(), parse_json)(read_at_most(path, MAX_BYTES["YAML"]))
    except OSError as error:
        raise UsageError(f"--labeler-env {text}: cannot be read ({error.strerror})") from None
    except DocumentError as error:
        raise UsageError(f"--labeler-env: {error}") from None
    if not isinstance(content, dict):
        raise UsageError('--labeler-env must be a table, such as {"pip": ["autodistill-yolo-world"]}')
    return content
