"""Writes YOLO-seg datasets: label files and ``data.yaml``. ``labeler.formats.yolo_reader`` reads them.

A label line is ``class x1 y1 x2 y2 ...``: one closed polygon through the mask's border pixels, with coordinates divided
by the image size. Readers multiply them by the size, truncate (Ultralytics) or round (supervision) them to whole
pixels, and call ``cv2.fillPoly``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from labeler.geometry.polygons import mask_to_single_polygon
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


def yolo_labels(record: ImageRecord) -> str:
    """The content of an image's label file: one line per instance. Instances with an empty mask are left out."""
    size = np.array([record.width, record.height])
    lines = []
    for instance in record.instances:
        polygon = mask_to_single_polygon(instance.rle)
        if len(polygon):
            values = ((polygon + INSIDE_PIXEL) / size).ravel().tolist()
            lines.append(f"{instance.class_id}" + (" %.6f" * len(values)) % tuple(values) + "\n")
    return "".join(lines)


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
