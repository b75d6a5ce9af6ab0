"""Write COCO instances JSON. ``labeler.formats.coco_reader`` reads it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from labeler.errors import UsageError
from labeler.files.local import naming
from labeler.geometry.masks import Rle, rle_area, rle_box_xyxy
from labeler.geometry.polygon_rule import EXACT, PolygonRule
from labeler.geometry.simplification import CocoOutline, coco_outlines
from labeler.records import ImageRecord

SCORE_DIGITS = 6
# Some versions of pycocotools fail on a file without these. Nothing in them depends on the time or the version, so that
# an unchanged dataset keeps its bytes.
INFO: dict[str, Any] = {"description": "Instance segmentation labels", "contributor": "labeler"}
LICENSES: list[Any] = []
HEAD = f'{{"info": {json.dumps(INFO)}, "licenses": {json.dumps(LICENSES)},\n"images": ['
HEAD_WITHOUT_INFO = '{"images": ['  # of earlier versions


def coco_categories(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The ``categories``. Ids are class id + 1, since many COCO tools reserve 0 for the background."""
    return [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(class_names, start=1)]


def coco_image(number: int, file_name: str, width: int, height: int) -> dict[str, Any]:
    """An entry of ``images``; ``number`` is its id."""
    return {"id": number, "file_name": file_name, "width": width, "height": height}


def coco_annotation(
    number: int, image_number: int, class_id: int, rle: Rle, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """An entry of ``annotations``; ``number`` is its id. The segmentation is compressed RLE."""
    x1, y1, x2, y2 = rle_box_xyxy(rle)
    return {
        "id": number,
        "image_id": image_number,
        "category_id": class_id + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": rle_area(rle),
        **attributes,
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
    }


def coco_annotations(
    record: ImageRecord, classes: int, segmentation: Literal["rle", "polygon"] = "rle", rule: PolygonRule = EXACT
) -> list[str]:
    """The annotations of an image, each as the JSON text that follows ``id`` and ``image_id``.

    ``CocoWriter`` fills in these ids, so the texts can be kept while other images come and go. Arguments as in
    ``CocoWriter``; ``classes`` is the number of classes.

    Raises:
        UsageError: there is no class with the class id of an instance.
    """
    for instance in record.instances:
        if not 0 <= instance.class_id < classes:
            raise UsageError(f"{record.image_id}: class id {instance.class_id}, but there are {classes} classes")
    instances = [instance for instance in record.instances if rle_area(instance.rle)]
    masks = [instance.rle for instance in instances]
    outlines = coco_outlines(masks, rule) if segmentation == "polygon" else (CocoOutline([], mask) for mask in masks)
    texts = []
    for instance, (polygons, drawn) in zip(instances, outlines, strict=True):
        attributes = {
            "iscrowd": 0,
            "score": round(instance.joint_score, SCORE_DIGITS),
            "detector_score": round(instance.score, SCORE_DIGITS),
            "mask_score": round(instance.mask_score, SCORE_DIGITS),
            **({"agreement": round(instance.agreement, SCORE_DIGITS)} if instance.agreement < 1 else {}),
        }
        annotation = coco_annotation(0, 0, instance.class_id, drawn, attributes)
        if segmentation == "polygon":
            annotation["segmentation"] = polygons
        del annotation["id"], annotation["image_id"]
        texts.append(json.dumps(annotation).removeprefix("{"))
    return texts


class CocoWriter:
    """Writes a COCO instances file one image at a time, atomically and in constant memory.

    Image and annotation ids count from 1 in the order of ``add``. ``score`` is the joint score, for ranking;
    ``detector_score``, ``mask_score`` and, where it is not 1, ``agreement`` are its factors. Instances with an empty
    mask are left out.

    Args:
        path: the JSON file; its folder must exist. The file appears when the block ends without an error.
        class_names: by class id.
        segmentation: ``rle``, or ``polygon`` along pixel edges; ``pycocotools`` reads the same mask from both.
        head: ``HEAD``, or ``HEAD_WITHOUT_INFO`` to get the bytes that earlier versions wrote.
        rule: of polygons. If they are not exact, box and area are those of the mask that ``pycocotools`` reads.
    """

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str],
        segmentation: Literal["rle", "polygon"] = "rle",
        head: str = HEAD,
        rule: PolygonRule = EXACT,
    ) -> None:
        self._path = path
        self._class_names = class_names
        self._segmentation = segmentation
        self._rule = rule
        self._temporary = path.with_name(f".{path.name}.partial")
        self._images = self._annotations = 0
        self._file = open(self._temporary, "w", encoding="ascii")  # noqa: SIM115 closed by __exit__
        # Annotations follow the images in the file, so they are collected in a temporary file.
        self._spool = tempfile.TemporaryFile("w+", dir=path.parent)  # noqa: SIM115 closed by __exit__
        self._file.write(head)

    def add(self, record: ImageRecord, file_name: str | None = None) -> None:
        """Append an image and its instances; ``file_name`` defaults to the record's ``image_id``.

        Raises:
            UsageError: an instance's class id is not in ``class_names``.
        """
        annotations = coco_annotations(record, len(self._class_names), self._segmentation, self._rule)
        name = record.image_id if file_name is None else file_name
        self.add_made(name, record.width, record.height, annotations)

    def add_made(self, file_name: str, width: int, height: int, annotations: Sequence[str]) -> None:
        """Append an image with its ``coco_annotations``."""
        with naming(self._path):
            self._images += 1
            self._file.write(_item(json.dumps(coco_image(self._images, file_name, width, height)), self._images))
            for annotation in annotations:
                self._annotations += 1
                ids = f'{{"id": {self._annotations}, "image_id": {self._images}, '
                self._spool.write(_item(ids + annotation, self._annotations))

    def __enter__(self) -> CocoWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            with naming(self._path), self._file, self._spool:
                if error is None:
                    self._finish()
            if error is None:
                os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._file.write('\n], "annotations": [')
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, self._file)
        self._file.write('\n], "categories": [')
        for number, category in enumerate(coco_categories(self._class_names), start=1):
            self._file.write(_item(json.dumps(category), number))
        self._file.write("\n]}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _item(entry: str, number: int) -> str:
    return ("\n" if number == 1 else ",\n") + entry
