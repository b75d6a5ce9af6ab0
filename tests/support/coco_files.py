"""COCO instances files written from records and read back as records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from labeler.formats.coco import CocoWriter
from labeler.formats.coco_file import read_coco as read_ground_truth
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
    """Class names by class id, and one record for each image, by id."""
    truth, content = read_ground_truth(path), json.loads(path.read_text())
    scores = iter(sorted(content["annotations"], key=lambda each: each["image_id"]))
    records = []
    for image in truth.images:
        instances = []
        for each, annotation in zip(image.instances, scores, strict=False):
            score, mask_score = annotation["detector_score"], annotation["mask_score"]
            name, area = truth.class_names[each.class_id], int(each.area or 0)
            instances.append(Instance(each.class_id, name, each.box, score, mask_score, 1.0, area, each.rle))
        records.append(ImageRecord(image.name, image.width, image.height, digest="", instances=tuple(instances)))
    return list(truth.class_names), records
