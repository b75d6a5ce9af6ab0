"""What the workflow tests run on: a folder of scenes, and the command line with the embedded weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Run, run_in_process, write_scenes
from tests.support.ray_cluster import ray_cluster


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of six scenes."""
    write_scenes(tmp_path / "scenes", range(6))
    return tmp_path / "scenes"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What ``labeler demo`` of 40 scenes writes and says. Work on a copy of it: ``linked_copy``."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = run_in_process("demo", "-o", folder, "--scenes", 40)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """The one Ray cluster of these tests, which this process has joined: the Ray engine uses it unless told another."""
    pytest.importorskip("ray")
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture
def labeler() -> Run:
    """Run the command line in this process; where a process of its own is the point, see ``run_process``."""
    return run_in_process
