"""Reads the YOLO-seg and COCO files of a dataset that somebody has edited.

These readers are stricter than those of ground truth: a line that is misread would change people's labels, so an image
with an entry that cannot be taken as it is has no labels here, but a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labeler.errors import FormatError
from labeler.formats.coco_reader import segmentation_to_rle
from labeler.geometry.masks import Rle, mask_to_rle, rle_area
from labeler.geometry.polygons import single_polygon_to_mask
from labeler.sizes import shown
from ontologies.documents import DocumentError, parse_json

Label = tuple[str, Rle]  # class name and mask
OUTSIDE = 0.01  # how far outside the image Ultralytics allows a coordinate to be


def read_label_file(data: bytes, width: int, height: int, class_names: Sequence[str]) -> list[Label]:
    """The labels in a YOLO-seg label file.

    Args:
        width, height: of the image, in pixels.

    Raises:
        FormatError: a line is no ``class x1 y1 x2 y2 x3 y3 ...``; the message begins with the number of the line.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"not UTF-8 text (byte {error.start})") from error
    labels = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                labels.append(_label(line.split(), width, height, class_names))
            except ValueError as error:
                raise FormatError(f"line {number}: {error}") from error
    return labels


def _label(words: Sequence[str], width: int, height: int, class_names: Sequence[str]) -> Label:
    first, *rest = words
    if not (first.isascii() and first.isdigit() and int(first) < len(class_names)):
        known = ", ".join(f"{number} {name}" for number, name in enumerate(class_names))
        raise ValueError(f"no class {first:.20}; the classes are {known:.100}")
    if len(rest) == 4:
        raise ValueError("a box of 4 numbers; labels here are outlines of three or more points x y")
    if len(rest) < 6 or len(rest) % 2:
        raise ValueError(f"{len(rest)} coordinates; an outline has three or more points x y")
    points = np.array([float(word) for word in rest]).reshape(-1, 2)
    if not ((points >= -OUTSIDE) & (points <= 1 + OUTSIDE)).all():
        raise ValueError("coordinates outside [0, 1]; divide them by the image's width and height")
    mask = single_polygon_to_mask(np.clip(points, 0, 1) * (width, height), height, width)
    return class_names[int(first)], mask_to_rle(mask)


@dataclass(frozen=True)
class EditedCoco:
    """A COCO file as somebody has edited it.

    Attributes:
        annotations: by file name of the image, as JSON has them.
        class_names: by category id.
        faults: what concerns no single image of the dataset.
    """

    annotations: dict[str, list[dict[str, Any]]]
    class_names: dict[Any, str]
    faults: list[str] = field(default_factory=list)

    def labels(self, name: str, width: int, height: int, class_names: Sequence[str]) -> list[Label]:
        """The labels of one image.

        Raises:
            FormatError: an annotation cannot be taken as it is.
        """
        labels = []
        for annotation in self.annotations[name]:
            try:
                labels.append(self._label(annotation, width, height, class_names))
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                cause = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
                raise FormatError(f"annotation {shown(annotation.get('id'))}: {cause}") from error
        return labels

    def _label(self, annotation: dict[str, Any], width: int, height: int, class_names: Sequence[str]) -> Label:
        category = annotation["category_id"]
        name = self.class_names.get(category) if isinstance(category, (int, str)) else None
        if name not in class_names or name is None:
            what = f"category {shown(category)}" if name is None else f"class {name!r}"
            raise ValueError(f"no {what:.60}; the classes are {', '.join(class_names):.100}")
        if annotation.get("iscrowd"):
            raise ValueError("a crowd, which a dataset cannot hold; outline its objects, or delete it")
        if not annotation.get("segmentation"):
            raise ValueError("no mask; outline the object, or delete the annotation")
        rle = segmentation_to_rle(annotation["segmentation"], width, height)
        if not rle_area(rle):
            raise ValueError("an empty mask; outline the object, or delete the annotation")
        return name, rle


def read_edited_coco(data: bytes) -> EditedCoco:
    """A COCO file, with its annotations told apart by image.

    Raises:
        FormatError: it is no COCO file.
    """
    try:
        content = parse_json(data)
        images, annotations = content["images"], content["annotations"]
        names = {image["id"]: str(image["file_name"]) for image in images}
        class_names = {category["id"]: str(category["name"]) for category in content["categories"]}
    except DocumentError as error:
        raise FormatError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise FormatError("no COCO file; it needs 'images', 'annotations' and 'categories'") from error
    edited = EditedCoco({name: [] for name in names.values()}, class_names)
    if len(edited.annotations) < len(images):
        edited.faults.append("two images have the same name or id")
    for annotation in annotations if isinstance(annotations, list) else ():
        image = annotation.get("image_id") if isinstance(annotation, dict) else None
        if isinstance(image, (int, str)) and image in names:
            edited.annotations[names[image]].append(annotation)
        else:
            edited.faults.append(f"{shown(annotation):.60} is the annotation of no image in it")
    return edited
