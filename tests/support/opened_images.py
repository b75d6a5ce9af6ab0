"""The images of a dataset as tools open them, by their own code."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

Pixels = dict[str, np.ndarray]  # RGB of each image that a tool opened, by its path


def by_ultralytics(home: Path) -> Pixels:
    utils = pytest.importorskip("ultralytics.data.utils")
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.utils import LOGGER
    from ultralytics.utils.patches import imread

    LOGGER.setLevel(logging.ERROR)
    data = utils.check_det_dataset(str(home / "data.yaml"), autodownload=False)
    found = YOLODataset(img_path=data["train"], data=data, task="segment", augment=False, imgsz=64)
    assert len(found.labels) == len(found.im_files)
    opened = {}
    for index, path in enumerate(found.im_files):
        try:
            found.load_image(index)
        except FileNotFoundError:  # training stops with it
            continue
        opened[path] = imread(path)[..., ::-1]
    return opened


def by_supervision_yolo(home: Path) -> Pixels:
    labels, data = str(home / "labels" / "train"), str(home / "data.yaml")
    return by_supervision(sv.DetectionDataset.from_yolo(str(home / "images" / "train"), labels, data))


def by_supervision(found: sv.DetectionDataset) -> Pixels:
    opened = {}
    for index, path in enumerate(found.image_paths):
        try:
            opened[path] = found[index][1][..., ::-1]
        except ValueError as error:
            if "Could not read image" not in str(error):
                raise
    return opened
