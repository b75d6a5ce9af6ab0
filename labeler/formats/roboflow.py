"""The layout of Roboflow's COCO exports, which RF-DETR and supervision read: images and annotations in one flat folder.

    train/a.jpg  train/_annotations.coco.json  valid/…  test/…

Files are written by ``labeler.formats.coco.CocoWriter``, with file names that have no folder, see
``labeler.formats.flat_names``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from labeler.formats.coco import CocoWriter

FOLDERS = {"train": "train", "val": "valid", "test": "test"}
ANNOTATIONS = "_annotations.coco.json"


def roboflow_writer(
    root: Path, split: str, class_names: Sequence[str], segmentation: Literal["rle", "polygon"] = "rle"
) -> CocoWriter:
    """The writer of the annotations of ``split`` (``train``, ``val`` or ``test``), whose folder must exist."""
    return CocoWriter(root / FOLDERS[split] / ANNOTATIONS, class_names, segmentation)
