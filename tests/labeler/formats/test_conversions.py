"""What docs/guides/formats.md says about converting COCO with supervision, datumaro and FiftyOne."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeler.formats.coco import CocoWriter
from labeler.geometry.masks import rle_to_mask
from labeler.records import ImageRecord
from tests.support.hard_masks import HARD_MASKS, iou
from tests.support.labeled_image import labeled_image, write_image

NAMES = ["cat", "big dog"]
PLAIN = ("holes", "holes side by side", "two parts", "parts one pixel apart", "last pixel", "full image", "spiral")
RECORDS = {
    name.replace(" ", "_"): labeled_image(f"{name.replace(' ', '_')}.png", HARD_MASKS[name], classes=[number % 2])
    for number, name in enumerate(PLAIN)
} | {"none": labeled_image("none.png")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("conversions")
    (home / "annotations").mkdir()
    with CocoWriter(home / "annotations" / "instances_train.json", NAMES) as writer:
        for record in RECORDS.values():
            write_image(home / "images" / "train" / record.image_id, record)
            writer.add(record)
    return home


def mask_of(record: ImageRecord) -> np.ndarray:
    return rle_to_mask(record.instances[0].rle)


def test_label_me_by_supervision(dataset: Path, tmp_path: Path) -> None:
    sv = pytest.importorskip("supervision")
    images, annotations = str(dataset / "images" / "train"), str(dataset / "annotations" / "instances_train.json")
    sv.DetectionDataset.from_coco(images, annotations).as_labelme(str(tmp_path), str(tmp_path))
    found = sv.DetectionDataset.from_labelme(str(tmp_path), str(tmp_path))
    by_stem = {Path(path).stem: read for path, read in found.annotations.items()}
    assert set(by_stem) == set(RECORDS)
    for stem, record in RECORDS.items():
        read: Any = by_stem[stem]
        assert [found.classes[each] for each in read.class_id] == [NAMES[each.class_id] for each in record.instances]
        if stem not in ("none", "last_pixel"):  # of one pixel, supervision writes the box
            assert iou(read.mask[0], mask_of(record)) == 1, stem


def test_panoptic_by_datumaro(dataset: Path, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    converted = datumaro.Dataset.import_from(str(dataset), "coco_instances")
    converted.export(str(tmp_path / "panoptic"), "coco_panoptic", save_media=True)
    found = datumaro.Dataset.import_from(str(tmp_path / "panoptic"), "coco_panoptic")
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label].items]
    for stem, record in RECORDS.items():
        masks = found.get(stem, "train").annotations
        assert [names[each.label] for each in masks] == [NAMES[each.class_id] for each in record.instances]
        for each in masks:
            np.testing.assert_array_equal(each.image.astype(bool), mask_of(record))


def test_fiftyone_imports(dataset: Path) -> None:
    """With the importer that ``fiftyone.Dataset.from_dir`` uses; only the database is left out."""
    coco = pytest.importorskip("fiftyone.utils.coco")
    importer = coco.COCODetectionDatasetImporter(
        data_path=str(dataset / "images" / "train"),
        labels_path=str(dataset / "annotations" / "instances_train.json"),
        label_types="segmentations",
    )
    with importer:
        found = {Path(path).stem: labels for path, _, labels in importer}
    assert set(found) == set(RECORDS)
    for stem, record in RECORDS.items():
        detections = found[stem].detections if found[stem] else []
        assert [each.label for each in detections] == [NAMES[each.class_id] for each in record.instances]
        for each in detections:
            height, width = each.mask.shape
            x, y = round(each.bounding_box[0] * record.width), round(each.bounding_box[1] * record.height)
            whole = np.zeros((record.height, record.width), dtype=bool)
            whole[y : y + height, x : x + width] = each.mask
            np.testing.assert_array_equal(whole, mask_of(record), stem)
