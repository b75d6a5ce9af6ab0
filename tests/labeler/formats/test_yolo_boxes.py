from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from labeler.formats.yolo import data_yaml, label_path
from labeler.formats.yolo_boxes import yolo_boxes
from labeler.formats.yolo_reader import read_yolo
from labeler.geometry.masks import rle_box_xyxy
from labeler.records import ImageRecord
from tests.support.hard_masks import HARD_MASKS, random_masks
from tests.support.labeled_image import boxes_mask, labeled_image, write_image

NAMES = ["cat", "dog"]


def records() -> list[ImageRecord]:
    masks = [mask for mask in (*HARD_MASKS.values(), *random_masks(20)) if min(mask.shape) >= 10]
    return [
        labeled_image(f"{index}.png", mask, np.roll(mask, 1), classes=[index % 2, 1])
        for index, mask in enumerate(masks)
    ]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("boxes")
    for record in [*records(), labeled_image("none.png")]:
        image = home / "images" / "train" / record.image_id
        write_image(image, record)
        label_path(image).parent.mkdir(parents=True, exist_ok=True)
        label_path(image).write_text(yolo_boxes(record))
    (home / "data.yaml").write_text(data_yaml(NAMES, {"train": "train", "val": "train"}))
    return home


def test_one_line_by_hand() -> None:
    mask = boxes_mask(10, 20, (4, 2, 9, 5), (5, 5, 6, 6))
    record = labeled_image("a.png", mask, np.zeros_like(mask), mask[::-1], classes=[1, 0, 0])
    assert (
        yolo_boxes(record) == "1 0.3250000 0.4000000 0.2500000 0.4000000\n0 0.3250000 0.6000000 0.2500000 0.4000000\n"
    )
    assert yolo_boxes(labeled_image("b.png")) == ""


def test_own_reader(dataset: Path) -> None:
    found = {image.name: image for image in read_yolo(dataset / "data.yaml").images}
    for record in records():
        assert [(each.class_id, each.box_only) for each in found[record.image_id].instances] == [
            (each.class_id, True) for each in unique(record)
        ]
        for read, instance in zip(found[record.image_id].instances, unique(record), strict=True):
            assert read.box_xyxy == pytest.approx(rle_box_xyxy(instance.rle), abs=1e-4)


def test_supervision(dataset: Path) -> None:
    found = sv.DetectionDataset.from_yolo(
        str(dataset / "images" / "train"), str(dataset / "labels" / "train"), str(dataset / "data.yaml")
    )
    assert found.classes == NAMES
    for record in records():
        read = found.annotations[str(dataset / "images" / "train" / record.image_id)]
        assert read.mask is None
        assert read.class_id.tolist() == [each.class_id for each in record.instances]
        np.testing.assert_allclose(read.xyxy, [rle_box_xyxy(each.rle) for each in record.instances], atol=1e-3)


def test_ultralytics(dataset: Path) -> None:
    utils = pytest.importorskip("ultralytics.data.utils")
    for record in records():
        image = str(dataset / "images" / "train" / record.image_id)
        (label,) = utils.img2label_paths([image])
        read = utils.verify_image_label((image, label, "", False, len(NAMES), 0, 0, False))
        assert (read[8], read[3]) == (0, [])  # not corrupt, no polygons
        boxes = read[1][:, 1:] * np.tile([record.width, record.height], 2)
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)
        expected = [(each.class_id, *rle_box_xyxy(each.rle)) for each in record.instances]
        np.testing.assert_allclose(
            sorted(map(tuple, np.column_stack([read[1][:, 0], corners]))), sorted(set(expected)), atol=1e-3
        )


def unique(record: ImageRecord) -> list:
    """The instances without those that have the class and box of an earlier one; readers count these once."""
    return list({(each.class_id, rle_box_xyxy(each.rle)): each for each in reversed(record.instances)}.values())[::-1]
