"""Calls on a real cluster: results and errors are those of this process, whatever happens to the processes there."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from labeler.errors import UsageError
from labeler.files.processes import on_all_cores
from tests.support.stand_in import GOOD, Silent, stand_in_job, write_images
from workflows.engines import ray_calls
from workflows.engines.ray_calls import on_cluster
from workflows.label import label
from workflows.settings.engine import EngineConfig

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
ENGINE = EngineConfig("ray", workers=2, cpus_per_worker=1)
MANY = ray_calls.WORTH_IT


def doubled(value: int) -> tuple[int, int]:
    return 2 * value, os.getpid()


def dies_elsewhere(here: int, value: int) -> int:
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return value


def refuses(value: int) -> int:
    raise UsageError(f"no {value}")


def test_calls_run_on_the_cluster(cluster: Any) -> None:
    with on_cluster(ENGINE, MANY)(doubled, True) as (call, at_once):
        assert at_once > 1
        value, process = call(21)
    assert value == 42
    assert process != os.getpid()


def test_few_images_stay_in_this_process(cluster: Any) -> None:
    assert on_cluster(ENGINE, MANY - 1) is on_all_cores
    with on_cluster(ENGINE, MANY)(doubled, False) as (call, _):
        assert call(21) == (42, os.getpid())


def test_a_process_that_dies_and_an_error(cluster: Any) -> None:
    with on_cluster(ENGINE, MANY)(partial(dies_elsewhere, os.getpid()), True) as (call, _):
        assert call(3) == 3
    with on_cluster(ENGINE, MANY)(refuses, True) as (call, _), pytest.raises(UsageError, match=r"^no 3$"):
        call(3)


def test_a_dataset_judged_on_the_cluster(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_calls, "WORTH_IT", 1)
    monkeypatch.setattr("workflows.dataset.judged_shards.WORTH_IT", 1)
    elsewhere: list[bool] = []
    on_cpus = ray_calls._on_cpus

    def noted(engine: EngineConfig, call: Any, is_worth_it: bool, /) -> Any:
        elsewhere.append(is_worth_it)
        return on_cpus(engine, call, is_worth_it)

    monkeypatch.setattr(ray_calls, "_on_cpus", noted)
    images = tmp_path / "images"
    write_images(images, [GOOD] * 20)
    label(stand_in_job(images, tmp_path / "ray", engine=ENGINE), Silent())
    assert elsewhere[0] is True
    label(stand_in_job(images, tmp_path / "local"), Silent())
    assert published(tmp_path / "ray") == published(tmp_path / "local")
    assert len(published(tmp_path / "ray")) > 40


def published(output: Path) -> dict[str, bytes]:
    """The files that readers read, with the instances as they were judged."""
    folders = ("images", "labels", "annotations")
    files = (path for folder in folders for path in (output / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in files}
