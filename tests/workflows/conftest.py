"""What the workflow tests run on: a folder of scenes, and the command line with the embedded weights."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.command_line import Run, labeler_command, write_scenes


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of six scenes."""
    write_scenes(tmp_path / "scenes", range(6))
    return tmp_path / "scenes"


@pytest.fixture
def labeler() -> Run:
    """Run the command line in a process of its own, as a user does."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(labeler_command(*arguments), capture_output=True, text=True, timeout=300)

    return run
