"""The layout of Roboflow's COCO exports, which RF-DETR and supervision read: images and annotations in one flat folder.

    train/a.jpg  train/_annotations.coco.json  valid/…  test/…

Files are written by ``labeler.formats.coco.CocoWriter``, with file names that have no folder, see
``labeler.formats.flat_names``.
"""

from __future__ import annotations

FOLDERS = {"train": "train", "val": "valid", "test": "test"}
ANNOTATIONS = "_annotations.coco.json"
