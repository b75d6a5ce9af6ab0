"""Another project's package in the place of ``workflows`` or ``ontologies``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labeler.errors import UsageError
from labeler.own_packages import INSTALLED, OWN_PACKAGES, check_own_packages
from tests.support import ROOT


def write_package(folder: Path, name: str, text: str = "raise SystemExit('the stranger was imported')") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)
    return folder


def test_the_packages_of_this_project_are_known() -> None:
    check_own_packages([str(INSTALLED)])
    check_own_packages()


@pytest.mark.parametrize("name", OWN_PACKAGES)
@pytest.mark.parametrize(
    ("place", "remedy"),
    [("checkout", "run labeler from another folder"), ("lib/site-packages", "a virtual environment of its own")],
)
def test_a_stranger_in_front(name: str, place: str, remedy: str, tmp_path: Path) -> None:
    folder = write_package(tmp_path / place, name)
    with pytest.raises(UsageError, match=remedy) as raised:
        check_own_packages([str(folder), str(INSTALLED)])
    assert str(folder / name) in str(raised.value)
    assert "\n" not in str(raised.value)
    check_own_packages([str(INSTALLED), str(folder)])  # behind this project's own, it does no harm


def test_a_second_copy_of_this_project_in_front(tmp_path: Path) -> None:
    """The checkout that was installed is the current folder: its code is the same until somebody edits it."""
    for package in ("labeler", *OWN_PACKAGES):
        shutil.copytree(INSTALLED / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    check_own_packages([str(tmp_path), str(INSTALLED)])
    with (tmp_path / "labeler" / "records.py").open("a") as file:
        file.write("# edited")
    with pytest.raises(UsageError, match="another version of labeler") as raised:
        check_own_packages([str(tmp_path), str(INSTALLED)])
    assert "run labeler from another folder" in str(raised.value)
    shutil.rmtree(tmp_path / "labeler")
    with pytest.raises(UsageError, match="another version of labeler"):
        check_own_packages([str(tmp_path), str(INSTALLED)])


def test_a_folder_that_is_no_package_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    check_own_packages([str(tmp_path), str(INSTALLED)])


@pytest.mark.parametrize(
    ("text", "message"), [("from .events import Event", "another project"), (None, "is incomplete")]
)
def test_a_file_that_another_installation_replaced_or_removed(
    text: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labeler.own_packages.INSTALLED", tmp_path)
    monkeypatch.setattr("labeler.own_packages._owner", lambda name: "another project")
    write_package(tmp_path, "workflows", text or "")
    if text is None:
        (tmp_path / "workflows" / "__init__.py").unlink()
    with pytest.raises(UsageError, match=message):
        check_own_packages([str(tmp_path)])


def test_the_command_and_the_plugin_say_so(tmp_path: Path) -> None:
    folder = write_package(tmp_path, "ontologies")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = subprocess.run(
        [sys.executable, "-P", "-m", "labeler", "models"], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert command.returncode == 2, command.stderr
    assert command.stderr.startswith("labeler: ")
    assert command.stderr.count("\n") == 1
    plugin = "from labeler import GroundedSAM"
    imported = subprocess.run(
        [sys.executable, "-P", "-c", plugin], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert f"UsageError: {folder / 'ontologies' / '__init__.py'}" in imported.stderr
    assert "the stranger was imported" not in command.stderr + imported.stderr


def test_ray_workers_would_search_the_current_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workflows.engines.ray_cluster import joined_ray

    monkeypatch.chdir(write_package(tmp_path, "workflows"))
    with pytest.raises(UsageError, match="run labeler from another folder"), joined_ray(None):
        pass
