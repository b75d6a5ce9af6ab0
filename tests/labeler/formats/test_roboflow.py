from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import supervision as sv

from labeler.formats.coco import CocoWriter
from labeler.formats.coco_file import read_coco
from labeler.formats.roboflow import ANNOTATIONS, FOLDERS
from labeler.geometry.masks import rle_box_xyxy, rle_to_mask
from labeler.records import ImageRecord
from tests.support.hard_masks import HARD_MASKS
from tests.support.labeled_image import labeled_image, write_image

NAMES = ["cat", "dog", "großer Hund"]
MASKS = [mask for mask in HARD_MASKS.values() if mask.shape[0] >= 40]
RECORDS = {
    "train": [labeled_image(f"a{n}.png", mask, ~mask, classes=[n % 3, 2]) for n, mask in enumerate(MASKS)],
    "val": [labeled_image("b.png", MASKS[0], classes=[1]), labeled_image("none.png")],
    "test": [labeled_image("c.png", MASKS[1], classes=[2])],
}


@pytest.fixture(scope="module", params=["rle", "polygon"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("roboflow")
    for split, records in RECORDS.items():
        (home / FOLDERS[split]).mkdir()
        with CocoWriter(home / FOLDERS[split] / ANNOTATIONS, NAMES, request.param) as writer:
            for record in records:
                write_image(home / FOLDERS[split] / record.image_id, record)
                writer.add(record)
    return home


def shown(record: ImageRecord) -> list[Any]:
    return [each for each in record.instances if each.area]


def test_own_reader(dataset: Path) -> None:
    for split, records in RECORDS.items():
        truth = read_coco(dataset / FOLDERS[split] / "_annotations.coco.json")
        assert truth.class_names == tuple(NAMES)
        for record, image in zip(records, truth.images, strict=True):
            assert [(each.class_id, each.rle) for each in image.instances] == [
                (each.class_id, each.rle) for each in shown(record)
            ]


def test_supervision(dataset: Path) -> None:
    for split, records in RECORDS.items():
        folder = dataset / FOLDERS[split]
        found = sv.DetectionDataset.from_coco(str(folder), str(folder / "_annotations.coco.json"))
        assert (len(found), found.classes) == (len(records), NAMES)
        for record in records:
            read = found.annotations[str((folder / record.image_id).resolve())]
            assert (read.class_id.tolist() if len(read) else []) == [each.class_id for each in shown(record)]
            np.testing.assert_array_equal(
                read.xyxy, np.reshape([rle_box_xyxy(each.rle) for each in shown(record)], (-1, 4))
            )


def test_rf_detr(dataset: Path) -> None:
    datasets = pytest.importorskip("rfdetr.datasets")
    coco = pytest.importorskip("rfdetr.datasets.coco")
    options = dict(square_resize_div_64=True, segmentation_head=True, multi_scale=False, expanded_scales=False)
    arguments = SimpleNamespace(dataset_dir=str(dataset), patch_size=16, num_windows=4, **options)
    assert datasets.detect_roboflow_format(dataset) == "coco"
    assert coco.is_valid_coco_dataset(str(dataset))
    for split, records in RECORDS.items():
        found = datasets.build_roboflow(split, arguments, 256)
        assert len(found) == len(records)
        found._transforms = None  # these scale images and masks
        for (image, target), record in zip(found, records, strict=True):
            assert image.size == (record.width, record.height)
            assert target["labels"].tolist() == [each.class_id for each in shown(record)]
            assert target["iscrowd"].tolist() == [0] * len(shown(record))
            for mask, instance in zip(target["masks"].numpy(), shown(record), strict=True):
                np.testing.assert_array_equal(mask, rle_to_mask(instance.rle))


def test_names_have_no_folder(dataset: Path) -> None:
    content = json.loads((dataset / "valid" / "_annotations.coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["b.png", "none.png"]
    assert sorted(path.name for path in (dataset / "valid").iterdir()) == [
        "_annotations.coco.json",
        "b.png",
        "none.png",
    ]
