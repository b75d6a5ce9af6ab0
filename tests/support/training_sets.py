"""Small datasets to train students on: scenes with their true masks, as an export lays them out."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from labeler.demo.scenes import SHAPES, Scene, coco_ground_truth, make_scene, scene_rng

SIDE = 64
CLASSES = list(SHAPES)


def scenes_of(seed: int, count: int) -> list[Scene]:
    return [make_scene(scene_rng(seed, index), SIDE) for index in range(count)]


def write_split(folder: Path, split: str, scenes: list[Scene]) -> None:
    """Write images and COCO annotations of one split."""
    names = [f"{split}_{index}.png" for index in range(len(scenes))]
    for scene, name in zip(scenes, names, strict=True):
        path = folder / "images" / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(path)
    file = folder / "annotations" / f"instances_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(coco_ground_truth(scenes, names, CLASSES)), encoding="utf-8")


def write_training_set(folder: Path, train: int = 12, val: int = 3) -> Path:
    """A dataset of ``train`` and ``val`` scenes."""
    folder.mkdir(exist_ok=True)
    for split, seed, count in (("train", 1, train), ("val", 2, val)):
        write_split(folder, split, scenes_of(seed, count))
    return folder
