"""Lays a dataset out in the folders that trainers read; images are hard links where the file system has them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from labeler.errors import ImageError, ModelError
from labeler.files.images import read_image
from labeler.formats import roboflow
from labeler.formats.coco import coco_annotation, coco_categories, coco_image
from labeler.formats.image_traits import as_png, read_traits
from labeler.formats.readers import RF_DETR, ULTRALYTICS, Reader
from labeler.formats.rewritten import is_rewritten_by_trainers
from labeler.formats.yolo import data_yaml, write_yolo_labels
from labeler.ground_truth import GroundTruthImage
from labeler.models.students.student import StudentData, StudentImage
from labeler.records import ImageRecord, Instance

DONE = "complete"  # exists when a folder was written to its end


def stage_yolo(folder: Path, data: StudentData) -> Path:
    """Write ``images/SPLIT`` and ``labels/SPLIT`` with polygons.

    Returns:
        The ``data.yaml`` beside them.
    """
    file = folder / "data.yaml"
    if _begin(folder):
        for split, images in (("train", data.train), ("val", data.val)):
            for image, name in zip(images, _placed(images, folder / "images" / split, ULTRALYTICS), strict=True):
                write_yolo_labels(folder / "labels" / split / f"{Path(name).stem}.txt", _record(image.labels, name))
        file.write_text(data_yaml(data.class_names), encoding="utf-8")
        (folder / DONE).touch()
    return file


def stage_roboflow(folder: Path, data: StudentData) -> Path:
    """Write ``train`` and ``valid``, each with its images and ``_annotations.coco.json``, as Roboflow exports them."""
    if _begin(folder):
        for split, images in (("train", data.train), ("val", data.val)):
            place = folder / roboflow.FOLDERS[split]
            names = _placed(images, place, RF_DETR)
            content = _coco(images, names, data.class_names)
            (place / roboflow.ANNOTATIONS).write_text(json.dumps(content), encoding="utf-8")
        (folder / DONE).touch()
    return folder


def _begin(folder: Path) -> bool:
    """Whether there is something to write; what a killed run left is removed first."""
    if (folder / DONE).exists():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def _placed(images: Sequence[StudentImage], folder: Path, reader: Reader) -> list[str]:
    """Put the images into ``folder``, under names that are unique without their suffix.

    What the trainer would not see, or not as it was labeled, becomes a PNG file.

    Raises:
        ModelError: an image cannot be read.
    """
    folder.mkdir(parents=True)
    names = []
    for number, image in enumerate(images):
        try:
            with open(image.path, "rb") as file:
                traits = read_traits(file, f"{number:06d}{image.path.suffix.lower()}")
            name = traits.file_name
            if reader.trouble(traits):
                name = as_png(traits).file_name
                Picture.fromarray(read_image(image.path).pixels).save(folder / name)
            else:
                _link(image.path, folder / name)
        except (OSError, ImageError) as error:
            raise ModelError(f"{image.path} cannot be read ({error}); export the dataset again") from error
        names.append(name)
    return names


def _link(source: Path, target: Path) -> None:
    """Make a hard link; or a copy, if that is not possible, or the trainer would write into the file."""
    if not is_rewritten_by_trainers(source):
        with suppress(OSError):
            os.link(source, target)
    if not target.exists():
        shutil.copyfile(source, target)


def _record(labels: GroundTruthImage, name: str) -> ImageRecord:
    instances = tuple(
        Instance(each.class_id, "", each.box, 1.0, 1.0, 1.0, 0, each.rle)
        for each in labels.instances
        if not (each.crowd or each.box_only)
    )
    return ImageRecord(name, labels.width, labels.height, "", instances=instances)


def _coco(images: Sequence[StudentImage], names: Sequence[str], class_names: Sequence[str]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        for each in image.labels.instances:
            attributes = {"iscrowd": int(each.crowd)}
            annotations.append(coco_annotation(len(annotations) + 1, number, each.class_id, each.rle, attributes))
    return {
        "images": [
            coco_image(number, name, image.labels.width, image.labels.height)
            for number, (image, name) in enumerate(zip(images, names, strict=True), start=1)
        ],
        "annotations": annotations,
        "categories": coco_categories(class_names),
    }
