"""YOLO datasets with labels as they are given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from labeler.ground_truth import GroundTruth

WIDTH, HEIGHT = 40, 20
SQUARE = "0 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5 0.3 0.4"
BOX = "1 0.5 0.5 0.5 0.5"


def dataset(root: Path, labels: Mapping[str, str | None], yaml: str | None = None) -> Path:
    """A dataset: the labels of each image, by its path below ``root``; None writes no label file."""
    for name, text in labels.items():
        image = root / name
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT)).save(image)
        if text is not None:
            path = root / name.replace("images", "labels", 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_suffix(".txt").write_bytes(text.encode())
    if yaml is not None:
        (root / "data.yaml").write_text(yaml)
    return root / "data.yaml"


def names(truth: GroundTruth) -> list[str]:
    return [image.name for image in truth.images]
