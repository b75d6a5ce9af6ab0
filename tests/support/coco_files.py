"""COCO instances files written from records and read back as records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from labeler.formats.coco import CocoWriter
from labeler.formats.coco_reader import parse_coco
from labeler.records import ImageRecord, Instance


def write_coco(
    path: Path,
    records: Iterable[ImageRecord],
    class_names: Sequence[str],
    segmentation: Literal["rle", "polygon"] = "rle",
) -> None:
    with CocoWriter(path, class_names, segmentation) as writer:
        for record in records:
            writer.add(record)


def read_coco(path: Path) -> tuple[list[str], list[ImageRecord]]:
    """Class names by class id, and one record for each image, in the file's order."""
    file = parse_coco(path)
    instances: dict[int, list[Instance]] = {image: [] for image in file.images}
    for annotation, instance in file.instances():
        instances[annotation["image_id"]].append(instance)
    return [category["name"] for category in file.categories], [
        ImageRecord(
            image["file_name"], image["width"], image["height"], digest="", instances=tuple(instances[identity])
        )
        for identity, image in file.images.items()
    ]
