"""Scenes on disk, and the command line as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

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


def labeler_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "labeler", *map(str, arguments)]
