from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from labeler.annotation_tools.corrections import SentImage, compare
from labeler.annotation_tools.cvat import cvat_to_rle, read_cvat, rle_to_cvat, write_cvat
from labeler.annotation_tools.fiftyone import read_corrected_coco
from labeler.errors import FormatError
from labeler.geometry.masks import mask_to_rle, rle_to_mask
from tests.support.hard_masks import HARD_MASKS, random_masks
from tests.support.sent_images import CLASSES, hard_images, sent_image

MASKS = {**HARD_MASKS, **{f"random {index}": mask for index, mask in enumerate(random_masks(20))}}
NO_DATUMARO = "datumaro wants pandas below 3 and opencv below 5, which would hold this project's tests back"
# As CVAT itself exports a task.
EXPORT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>review</name><size>2</size><mode>annotation</mode><labels>
    <label><name>cat</name><color>#33ddff</color><type>any</type><attributes></attributes></label>
  </labels></task><dumped>2026-01-01 10:00:00+00:00</dumped></meta>
  <image id="0" name="sub/a.png" subset="default" task_id="4" width="6" height="4">
    <mask label="cat" source="file" occluded="0" rle="1, 2, 2, 1" left="2" top="1" width="3" height="2" z_order="0">
      <attribute name="labeler_id">sent-0a1b2c3d-7</attribute>
    </mask>
    <polygon label="cat" source="manual" occluded="0" points="0.00,0.00;3.00,0.00;3.00,2.00;0.00,2.00" z_order="0">
    </polygon>
    <box label="cat" source="manual" occluded="0" xtl="1.00" ytl="1.00" xbr="3.00" ybr="3.00" z_order="0"></box>
    <tag label="cat" source="manual"></tag>
  </image>
  <image id="1" name="b.png" width="6" height="4">
  </image>
</annotations>
"""


def written(folder: Path, *images: SentImage) -> bytes:
    write_cvat(folder, images, CLASSES)
    return (folder / "annotations.xml").read_bytes()


def test_masks_come_back() -> None:
    for name, mask in MASKS.items():
        height, width = mask.shape
        rle = mask_to_rle(mask)
        assert cvat_to_rle(rle_to_cvat(rle), width, height) == rle, name


def test_an_export_of_cvat() -> None:
    first, second = read_cvat(EXPORT.encode())
    mask, polygon = first.instances
    drawn = np.zeros((4, 6), dtype=int)
    drawn[1:3, 2:5] = [[0, 1, 1], [0, 0, 1]]  # runs in row order: 1 off, 2 on, 2 off, 1 on
    assert np.array_equal(rle_to_mask(mask.rle), drawn == 1)
    assert (mask.object_id, mask.outlined, polygon.object_id, polygon.outlined) == ("sent-0a1b2c3d-7", False, "", True)
    box = np.zeros((4, 6), dtype=bool)
    box[:2, :3] = True
    assert np.array_equal(rle_to_mask(polygon.rle), box)
    assert (first.name, [each.kind for each in first.unread]) == ("sub/a.png", ["box"])
    assert (second.name, second.instances) == ("b.png", ())


def test_what_was_not_touched_comes_back_as_it_was(tmp_path: Path) -> None:
    images = hard_images()
    back = read_cvat(written(tmp_path, *images))
    for image, corrected in zip(images, back, strict=True):
        assert corrected.name == image.name
        assert [(e.object_id, e.class_name, e.rle) for e in corrected.instances] == [
            (e.object_id, e.class_name, e.rle) for e in image.instances
        ]
        assert all(d.verdict == "accept" and not d.new_class and not d.new_rle for d in compare(image, corrected))


def test_labels_have_the_attributes_of_the_masks(tmp_path: Path) -> None:
    root = ElementTree.fromstring(written(tmp_path, sent_image("a.png", HARD_MASKS["holes"])))
    labels = json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))
    assert [label["name"] for label in labels] == [name.text for name in root.iterfind("meta/task/labels/label/name")]
    (mask,) = root.iter("mask")
    texts = {attribute.get("name"): attribute.text for attribute in mask}
    assert texts == {"labeler_id": "0a1b2c3d-a.png0", "score": "0.250000"}
    for label in labels:
        assert [attribute["name"] for attribute in label["attributes"]] == list(texts)
        assert {attribute["input_type"] for attribute in label["attributes"]} == {"text"}


def by_datumaro(folder: Path, images: list[SentImage]) -> Any:
    """A written set, read by datumaro."""
    datumaro = pytest.importorskip("datumaro", reason=NO_DATUMARO)
    written(folder, *images)
    (folder / "images").mkdir()
    for image in images:
        Image.new("RGB", (image.width, image.height)).save(folder / "images" / image.name)
    return datumaro.Dataset.import_from(str(folder), "cvat")


def test_datumaro_reads_what_is_written(tmp_path: Path) -> None:
    """CVAT's own importer for projects is of the same descent."""
    datumaro = pytest.importorskip("datumaro", reason=NO_DATUMARO)
    images = hard_images()
    dataset = by_datumaro(tmp_path, images)
    labels = dataset.categories()[datumaro.AnnotationType.label]
    assert [label.name for label in labels] == CLASSES
    items = {item.id: item for item in dataset}
    assert len(items) == len(images)
    for image in images:
        item = items[image.name.removesuffix(".png")]
        assert item.media.size == (image.height, image.width)
        assert len(item.annotations) == len(image.instances)
        for annotation, instance in zip(item.annotations, image.instances, strict=True):
            assert np.array_equal(annotation.image.astype(bool), rle_to_mask(instance.rle))
            assert labels[annotation.label].name == instance.class_name
            assert annotation.attributes["labeler_id"] == instance.object_id
            assert float(annotation.attributes["score"]) == pytest.approx(instance.score)


def test_coco_by_datumaro(tmp_path: Path) -> None:
    """CVAT writes COCO by it: masks are crowds there, and attributes have a place of their own."""
    images = hard_images()
    (tmp_path / "in").mkdir()
    by_datumaro(tmp_path / "in", images).export(str(tmp_path / "coco"), "coco_instances")
    (path,) = (tmp_path / "coco" / "annotations").glob("*.json")
    found = {corrected.name: corrected for corrected in read_corrected_coco(json.loads(path.read_text("utf-8")))}
    for image in images:
        corrected = found[image.name]
        assert {each.object_id for each in corrected.instances} == {each.object_id for each in image.instances}
        assert all(d.verdict == "accept" and not d.new_class and not d.new_rle for d in compare(image, corrected))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rle="1, 2, 2, 1"', 'rle="1, 2, 2, 2"', "fit"),
        ('rle="1, 2, 2, 1"', 'rle="1, x"', "image sub/a.png"),
        ('rle="1, 2, 2, 1"', 'rle="7, -1"', "fit"),
        ('left="2"', 'left="4"', "6 x 4"),
        ('left="2"', "", "'left' is missing"),
        ('width="6"', 'width="wide"', "image sub/a.png"),
        ("3.00,2.00;0.00,2.00", "", "polygon|image sub/a.png"),
        ("3.00,0.00;", "9e9,0.00;", "polygon"),
        ("</annotations>", "", "not valid XML"),
        ("annotations>", "html>", "CVAT for images"),
        ("<version>1.1</version>", "<track id='0'/>", "CVAT for images"),
    ],
)
def test_what_does_not_hold_together(old: str, new: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as error:
        read_cvat(EXPORT.replace(old, new).encode())
    assert "\n" not in str(error.value)
