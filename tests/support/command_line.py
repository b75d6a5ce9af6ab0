"""Scenes on disk, and the command line as a user starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from labeler.demo.scenes import SHAPES, make_scene, scene_rng

CLASSES = ", ".join(SHAPES)
Run = Callable[..., subprocess.CompletedProcess[str]]


def write_scenes(folder: Path, indices: Iterable[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        Image.fromarray(make_scene(scene_rng(99, index)).image).save(folder / f"scene_{index:03d}.png")


def labeler_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "labeler", *map(str, arguments)]
