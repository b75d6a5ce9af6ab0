"""Writes YOLO-seg datasets: label files and ``data.yaml``. ``labeler.formats.yolo_reader`` reads them.

A label line is ``class x1 y1 x2 y2 ...``: one closed polygon through the mask's border pixels, with coordinates divided
by the image size. Readers multiply them by the size, truncate (Ultralytics) or round (supervision) them to whole
pixels, and call ``cv2.fillPoly``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from labeler.geometry.polygon_rule import EXACT, PolygonRule
from labeler.geometry.simplification import yolo_polygons
from labeler.records import ImageRecord

# Both truncating and rounding turn x + 0.45 into x; with 0.5, the pixel's centre, rounding would give x + 1. With six
# decimals, this holds for images of up to 80,000 pixels per side.
INSIDE_PIXEL = 0.45
SAME_NAMES = {"train": "train", "val": "val"}


def label_path(image_path: Path) -> Path:
    """The path at which Ultralytics looks for an image's labels.

    The last folder named ``images`` becomes ``labels``, and the suffix becomes ``.txt``. Images that differ only in
    their suffix would share a label file, so they need different names.
    """
    folders = list(image_path.parent.parts)
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return Path(*folders, image_path.name).with_suffix(".txt")


def yolo_labels(record: ImageRecord, rule: PolygonRule = EXACT) -> str:
    """The content of an image's label file: one line per instance. Instances with an empty mask are left out."""
    lines = []
    polygons = yolo_polygons([instance.rle for instance in record.instances], rule)
    for instance, polygon in zip(record.instances, polygons, strict=True):
        if len(polygon):
            sides = (_coordinates(record.width)[polygon[:, 0]], _coordinates(record.height)[polygon[:, 1]])
            lines.append(f"{instance.class_id}{np.concatenate(sides, axis=1).tobytes().decode('ascii')}\n")
    return "".join(lines)


@lru_cache(maxsize=128)
def _coordinates(side: int) -> NDArray[np.uint8]:
    """The text of each pixel index along a side, after a space: ASCII, uint8 ``(side, 9)``."""
    values = ((np.arange(side) + INSIDE_PIXEL) / side).tolist()
    text = (" %.6f" * side) % tuple(values)
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8).reshape(side, -1)


def write_yolo_labels(path: Path, record: ImageRecord) -> None:
    """Write ``yolo_labels`` to the file at ``path`` (see ``label_path``), and create its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yolo_labels(record), encoding="ascii", newline="\n")


def data_yaml(class_names: Sequence[str], folders: Mapping[str, str] = SAME_NAMES) -> str:
    """The content of Ultralytics' ``data.yaml``.

    Without the key ``path``, Ultralytics looks for the splits next to the file, so the dataset can be moved.
    Ultralytics needs ``train`` and ``val``; both may name the same folder.

    Args:
        class_names: by class id.
        folders: split -> its folder below ``images``, which is next to the file.
    """
    content: dict[str, Any] = {split: f"images/{folder}" for split, folder in folders.items()}
    content["names"] = dict(enumerate(class_names))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))
