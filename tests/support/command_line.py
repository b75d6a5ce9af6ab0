"""Scenes on disk, and the command line: in this process, or in one of its own as a user starts it."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from labeler.demo.scenes import SHAPES, make_scene, scene_rng
from workflows.commands.cli import load
from workflows.commands.parsing import parse

CLASSES = ", ".join(SHAPES)
Run = Callable[..., subprocess.CompletedProcess[str]]


def write_scenes(folder: Path, indices: Iterable[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        Image.fromarray(make_scene(scene_rng(99, index)).image).save(folder / f"scene_{index:03d}.png")


def options_of(arguments: Sequence[object]) -> Any:
    """The options that a command line, which begins with the command, comes to."""
    name, *rest = map(str, arguments)
    return parse(name, load(name), rest).options


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset and its records, by path, except those that name the folder or hold times."""
    left_out = ("run.json", "lock", "images.parquet", "ledger.parquet", "summary.json")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in left_out]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def linked_copy(folder: Path, to: Path) -> Path:
    """A copy by hard links: commands replace files, and never write into one."""
    return Path(shutil.copytree(folder, to, copy_function=os.link))


def labeler_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "labeler", *map(str, arguments)]


def run_in_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process: torch is imported once, not by every command.

    What ``main`` sets for the whole process (log handlers, warnings, signals, the environment) is set back afterwards.
    """
    from workflows.commands.cli import main

    command = [str(argument) for argument in arguments]
    out, errors = io.StringIO(), io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    on_signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    root.handlers.clear()  # with pytest's own, basicConfig would do nothing
    try:
        with (
            warnings.catch_warnings(),
            mock.patch.dict(os.environ),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(errors),
        ):
            code = main(command)
    finally:
        root.handlers[:], root.level = handlers, level
        for number, handler in on_signals.items():
            signal.signal(number, handler)
    return subprocess.CompletedProcess(command, code, out.getvalue(), errors.getvalue())


def run_process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(labeler_command(*arguments), capture_output=True, text=True, timeout=300)
