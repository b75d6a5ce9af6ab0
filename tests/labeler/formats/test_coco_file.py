"""COCO files as Roboflow, Label Studio, CVAT, sahi, VisDrone converters and scripts write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from labeler.errors import FormatError
from labeler.formats.coco_file import read_coco
from labeler.geometry.masks import mask_to_rle, rle_area, rle_to_mask
from labeler.ground_truth import GroundTruth

TRIANGLE = [1, 1, 9, 1, 9, 9]
RLE = mask_to_rle(np.pad(np.ones((4, 5), dtype=bool), ((2, 14), (3, 22))))
COUNTS = RLE["counts"].decode()


def content() -> dict[str, Any]:
    """Two images; the first has a triangle, a mask and a polygon with a hole of its own class."""
    return {
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 30, "height": 20},
            {"id": 2, "file_name": "b.jpg", "width": 30, "height": 20},
        ],
        "categories": [{"id": 1, "name": "dog", "supercategory": ""}, {"id": 2, "name": "cat", "supercategory": ""}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [TRIANGLE], "bbox": [1, 1, 8, 8], "area": 32},
            {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [20, 30], "counts": COUNTS}},
            {"id": 3, "image_id": 2, "category_id": 1, "segmentation": [[2, 2, 5, 2, 5, 5, 2, 5]], "iscrowd": 0},
        ],
    }


def read(folder: Path, change: Callable[[dict[str, Any]], object] = bool, **options: Any) -> GroundTruth:
    changed = content()
    change(changed)
    (folder / "truth.json").write_text(json.dumps(changed))
    return read_coco(folder / "truth.json", **options)


def each(key: str, **values: Any) -> Callable[[dict[str, Any]], object]:
    """Changes fields of every entry; a callable makes the new value of the old one."""
    return lambda file: [
        entry.update({name: value(entry[name]) if callable(value) else value for name, value in values.items()})
        for entry in file[key]
    ]


def first(**values: Any) -> Callable[[dict[str, Any]], object]:
    """Changes fields of the first annotation; ``...`` removes one."""

    def change(file: dict[str, Any]) -> None:
        annotation = file["annotations"][0]
        annotation.update(values)
        for name in [name for name, value in values.items() if value is ...]:
            del annotation[name]

    return change


def ids_as(kind: type) -> Callable[[dict[str, Any]], object]:
    def change(file: dict[str, Any]) -> None:
        each("images", id=kind)(file)
        each("annotations", image_id=kind, category_id=kind)(file)
        each("categories", id=kind)(file)

    return change


@pytest.mark.parametrize(
    "change",
    [
        ids_as(str),
        ids_as(float),
        each("annotations", image_id=str, category_id=float),
        each("images", width=float, height=float),
        each("images", width=str, height=lambda side: f"{side}.0"),
        each("annotations", id=0),
        each("annotations", id=lambda number: number - 1),
        lambda file: [annotation.pop("id") for annotation in file["annotations"]],
        each("annotations", iscrowd="0"),
        each("annotations", iscrowd="false"),
        each("annotations", iscrowd=None),
        each("annotations", iscrowd=False, ignore=0, score=None),
        first(segmentation=TRIANGLE),
        first(segmentation=[[[1, 1], [9, 1], [9, 9]]]),
        first(segmentation=[[1, 1], [9, 1], [9, 9]]),
        first(segmentation=[{"x": 1, "y": 1}, {"x": 9, "y": 1}, {"x": 9, "y": 9}]),
        first(segmentation=[list(map(str, TRIANGLE))]),
        first(segmentation=[list(map(float, TRIANGLE))], bbox=["1", "1", "8", "8.0"], area="32"),
        lambda file: file["annotations"][1]["segmentation"].update(counts=str(RLE["counts"])),
        lambda file: file["annotations"][1]["segmentation"].update(size=[20.0, "30"]),
        lambda file: file["images"].append(dict(file["images"][0])),
        lambda file: (
            file["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
            or each("categories", supercategory=lambda old: old or "pets")(file)
        ),
    ],
)
def test_the_same_truth_in_other_words(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Nothing is lost, and pycocotools makes the same masks of the plain file."""
    plain, truth = read(tmp_path), read(tmp_path, change)
    assert (truth.class_names, truth.images) == (plain.class_names, plain.images)
    assert all(note.startswith("1 category that only groups the others") for note in truth.notes)
    triangle, rle = truth.images[0].instances
    (expected,) = coco_mask.frPyObjects([TRIANGLE], 20, 30)
    np.testing.assert_array_equal(rle_to_mask(triangle.rle), coco_mask.decode(expected))
    np.testing.assert_array_equal(rle_to_mask(rle.rle), coco_mask.decode(RLE))


@pytest.mark.parametrize(("value", "crowd"), [("1", True), ("true", True), (1.0, True), ("False", False), ("", False)])
def test_crowds(tmp_path: Path, value: object, crowd: bool) -> None:
    assert read(tmp_path, first(iscrowd=value)).images[0].instances[0].crowd is crowd


def test_ignored_annotations_are_crowds(tmp_path: Path) -> None:
    truth = read(tmp_path, first(iscrowd=0, ignore=1))
    assert truth.images[0].instances[0].crowd
    assert truth.notes == ("1 annotation marked 'ignore': a crowd, which is neither right nor wrong (1)",)


@pytest.mark.parametrize(
    "segmentation", [..., None, [], [[]], [[1, 1, 5, 5]], {"size": [20, 30], "counts": "h"}, [1, 1, 9, 9]]
)
def test_a_box_without_a_mask(tmp_path: Path, segmentation: object) -> None:
    truth = read(tmp_path, first(segmentation=segmentation, area=...))
    box = truth.images[0].instances[0]
    if not isinstance(segmentation, dict):
        assert truth.notes == (
            "1 annotation without a mask: counted by the box, and left out of measures of masks (1)",
        )
    assert (box.box_only, box.box, box.area, rle_area(box.rle)) == (True, (1, 1, 9, 9), 64, 64)
    assert not truth.images[0].not_exhaustive
    mask = read(tmp_path, first(segmentation=segmentation), boxes_as_masks=True).images[0].instances[0]
    assert (mask.box_only, rle_area(mask.rle)) == (False, 64)


def test_boxes_alone(tmp_path: Path) -> None:
    """A file for detection: its boxes have fractions, and lie a hair outside."""

    def change(file: dict[str, Any]) -> None:
        for number, annotation in enumerate(file["annotations"]):
            annotation.pop("segmentation")
            annotation["bbox"] = [-0.25, number, 30.5, 10.25]

    truth = read(tmp_path, change)
    boxes = [instance for image in truth.images for instance in image.instances]
    assert [box.box for box in boxes] == [(-0.25, y, 30.25, y + 10.25) for y in range(3)]
    assert [rle_area(box.rle) for box in boxes] == [30 * 10] * 3
    assert truth.notes == (
        "3 annotations without a mask: counted by the box, and left out of measures of masks (1, 2, 3)",
    )


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            first(segmentation=[[1, 1, 5, 5], TRIANGLE]),
            "1 annotation with parts of fewer than three points: these parts are left out (1)",
        ),
        (
            first(segmentation=[[1, 1, 9, 1, 9, float("nan")]]),
            "1 annotation with a mask that cannot be read: taken as without one (1: a polygon has points far outside",
        ),
        (first(bbox=[1, 1, float("nan"), 2]), "1 annotation with a box that cannot be read: the box of the mask"),
        (first(area=None), "1 annotation with an area that is no number: measured instead (1)"),
        (first(image_id=99), "1 annotation whose image is not in the file: left out (1)"),
        (first(category_id=99), "1 annotation whose category is not in the file: left out (1)"),
        (
            lambda file: file["annotations"].append(dict(file["annotations"][0])),
            "1 annotation equal to another: each counts (a.jpg)",
        ),
        (
            lambda file: file["categories"].append({"id": 3, "name": "Dog"}),
            "1 category with the name of another: one class with it (Dog)",
        ),
        (each("images", neg_category_ids=[7]), "2 images with 'neg_category_ids' that are not in the file"),
        (
            lambda file: file["images"].extend({**file["images"][1], "id": number} for number in (3, 4)),
            "3 images with the name of another: left out (b.jpg, b.jpg, b.jpg)",
        ),
    ],
)
def test_what_is_counted(tmp_path: Path, change: Callable[[dict[str, Any]], object], note: str) -> None:
    truth = read(tmp_path, change)
    assert [line for line in truth.notes if line.startswith(note)], truth.notes
    assert not truth.images[0].not_exhaustive


@pytest.mark.parametrize(
    ("change", "unsure", "note"),
    [
        (first(segmentation=..., bbox=...), {0}, "1: it has neither a mask nor a box"),
        (first(segmentation=[], bbox=[40, 1, 2, 2]), {0}, "1: the box has no area in the image"),
        (first(segmentation=[], bbox=[1, 1, 1e300, 2]), {0}, "1: the box lies far outside the image"),
        (first(segmentation=[], bbox=[1, 1, -2, 2]), {0}, "1: 'bbox' is [1, 1, -2, 2], with a negative side"),
        (first(iscrowd="perhaps"), {0}, "1: 'iscrowd' is 'perhaps', neither 0 nor 1"),
        (first(category_id=None), {0, 1}, "1: 'category_id' is None, which is no id"),
    ],
)
def test_an_annotation_that_cannot_be_read(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], unsure: set[int], note: str
) -> None:
    """It is left out, and what is found of its class in its image is no false positive."""
    truth = read(tmp_path, change)
    assert [len(image.instances) for image in truth.images] == [1, 1]
    assert [image.not_exhaustive for image in truth.images] == [unsure, set()]
    assert truth.notes == (f"1 annotation that cannot be read: left out ({note})",)


def test_a_file_without_any_annotation_that_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"truth\.json: annotation 1: names image 8, which the file does not hold"):
        read(tmp_path, each("annotations", image_id=8))


@pytest.mark.parametrize("sides", [{}, {"width": 30}, {"width": None, "height": None}, {"width": 0, "height": 0}])
def test_sizes_that_are_not_stated(tmp_path: Path, sides: dict[str, Any]) -> None:
    """They are those of the labeled images; an image that is not labeled has no size, and is not compared."""

    def change(file: dict[str, Any]) -> None:
        file["images"] = [{"id": image["id"], "file_name": image["file_name"], **sides} for image in file["images"]]

    a, b = read(tmp_path, change, sizes=lambda: {"photos/a.jpg": (30, 20)}).images
    assert ((a.width, a.height, len(a.instances)), (b.width, b.height, b.instances)) == ((30, 20, 2), (0, 0, ()))


def test_addresses_in_place_of_names(tmp_path: Path) -> None:
    def change(file: dict[str, Any]) -> None:
        for image in file["images"]:
            image["coco_url"] = f"http://images.example.org/val/{image['file_name']}"
            image["file_name"] = None

    assert [image.name for image in read(tmp_path, change).images] == ["val/a.jpg", "val/b.jpg"]
