"""Scenes, labels of them, and the datasets that students learn from, for ``closed_loop.py``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from labeler.demo.scenes import SHAPES, coco_ground_truth, make_scene, scene_rng
from labeler.quality_config import QualityConfig

CLASSES = list(SHAPES)
TEACHER = ("--model", "demo", "--device", "cpu", "--floor", "0.05")


def labeler(*arguments: object) -> None:
    """Run a command of labeler on one core."""
    command = [sys.executable, "-m", "labeler", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")


def draw(folder: Path, seed: int, count: int) -> Path:
    """Scenes as PNG files in ``folder/images``, unless they are there. Returns the file of their ground truth."""
    truth = folder / "truth.json"
    if not truth.exists():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        scenes = [make_scene(scene_rng(seed, index)) for index in range(count)]
        names = [f"scene_{index:05d}.png" for index in range(count)]
        for scene, name in zip(scenes, names, strict=True):
            Image.fromarray(scene.image).save(folder / "images" / name)
        truth.write_text(json.dumps(coco_ground_truth(scenes, names, CLASSES)))
    return truth


def labeled(images: Path, output: Path, *models: object) -> Path:
    """``output``, with labels of ``images``."""
    labeler("label", images, "-o", output, *models, "--classes", ", ".join(CLASSES))
    return output


def snapshot(dataset: Path, to: Path) -> Path:
    """Images and annotations as they are now, since the next export changes them."""
    if not to.exists():
        partial = _emptied(to)
        for name in ("images", "annotations"):
            shutil.copytree(dataset / name, partial / name, copy_function=os.link)
        partial.rename(to)
    return to


def accepted_from(labels: Path, score: float, to: Path) -> Path:
    """A snapshot in which every candidate of ``labels`` with that joint score or more is a label."""
    if not to.exists():
        gate = QualityConfig()
        lowered = ("--min-score", min(score, gate.min_score), "--min-joint-score", min(score, gate.min_joint_score))
        labeler("export", labels, "--accept-score", score, *lowered)
    return snapshot(labels, to)


def with_student(labels: Path, images: Path, model: Path, to: Path) -> Path:
    """A copy of ``labels`` with a pass more, in which a student labels the same images; with default thresholds."""
    if not to.exists():
        partial = _emptied(to)
        shutil.copytree(labels, partial, dirs_exist_ok=True)
        partial.rename(to)
    student = ("--detector", model, "--segmenter", "embedded:segmenter", "--device", "cpu")
    return labeled(images, to, *student, "--add-pass", "all", "--defaults")


def with_true_masks(dataset: Path, truth: Path, to: Path) -> Path:
    """The images and splits of ``dataset`` with the objects of ``truth`` as labels."""
    if not to.exists():
        partial = _emptied(to)
        shutil.copytree(dataset / "images", partial / "images", copy_function=os.link)
        (partial / "annotations").mkdir()
        content = json.loads(truth.read_text())
        for file in (dataset / "annotations").iterdir():
            (partial / "annotations" / file.name).write_text(json.dumps(_of_images(content, named_in(file))))
        partial.rename(to)
    return to


def named_in(annotations: Path) -> set[str]:
    """The names of the images of a COCO file."""
    return {image["file_name"] for image in json.loads(annotations.read_text())["images"]}


def _of_images(content: dict[str, Any], names: set[str]) -> dict[str, Any]:
    images = [image for image in content["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    annotations = [each for each in content["annotations"] if each["image_id"] in ids]
    return {**content, "images": images, "annotations": annotations}


def _emptied(to: Path) -> Path:
    """A new folder beside ``to``, which is renamed when it is complete."""
    partial = to.with_name(f"{to.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial
