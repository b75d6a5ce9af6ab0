from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from labeler.errors import FormatError
from labeler.formats.ground_truth import read_ground_truth
from labeler.formats.yolo import data_yaml, write_yolo_labels
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.records import ImageRecord, Instance


def square(x: int, y: int, side: int = 4, height: int = 20, width: int = 30) -> np.ndarray[Any, np.dtype[np.bool_]]:
    mask = np.zeros((height, width), dtype=bool)
    mask[y : y + side, x : x + side] = True
    return mask


def uncompressed(mask: np.ndarray[Any, Any]) -> dict[str, Any]:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def coco_content() -> dict[str, Any]:
    compressed = mask_to_rle(square(3, 2))
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 30, "height": 20},
            {"id": 3, "file_name": "val/a.jpg", "width": 30, "height": 20},
        ],
        "categories": [{"id": 9, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 9, "segmentation": [[1, 1, 8, 1, 8, 6.5]], "area": 19.25,
             "bbox": [1, 1, 7, 5.5], "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 2, "iscrowd": 1, "area": 16, "bbox": [9, 9, 4, 4],
             "segmentation": uncompressed(square(9, 9))},
            {"id": 3, "image_id": 7, "category_id": 2,
             "segmentation": {**compressed, "counts": compressed["counts"].decode()}},
        ],
    }  # fmt: skip


def write(folder: Path, content: Any) -> Path:
    path = folder / "truth.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on NumPy 2
def test_coco_as_pycocotools_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path, coco_content())
    truth, coco = read_ground_truth(path), COCO(path)
    assert truth.class_names == ("dog", "cat")
    assert [image.name for image in truth.images] == ["val/a.jpg", "b.jpg"]  # by id
    for image, image_id in zip(truth.images, sorted(coco.imgs), strict=True):
        annotations = coco.imgToAnns[image_id]
        for true, annotation in zip(image.instances, annotations, strict=True):
            np.testing.assert_array_equal(rle_to_mask(true.rle), coco.annToMask(annotation).astype(bool))
            assert coco.cats[annotation["category_id"]]["name"] == truth.class_names[true.class_id]
            assert true.crowd == bool(annotation.get("iscrowd"))
    first, crowd = truth.images[0].instances
    assert (first.area, first.box_xyxy) == (19.25, (1, 1, 8, 6.5))  # as stated, not as rasterised
    assert crowd.area == 16
    assert truth.images[1].instances[0].box_xyxy == (3, 2, 7, 6)
    assert (truth.frequencies, truth.semantic, truth.images[0].absent) == ((), False, None)


def test_lvis(tmp_path: Path) -> None:
    content = coco_content()
    content["images"] = [
        {"id": 3, "coco_url": "http://images.cocodataset.org/val2017/a.jpg", "width": 30, "height": 20,
         "neg_category_ids": [2], "not_exhaustive_category_ids": [9]},
        {"id": 7, "coco_url": "http://images.cocodataset.org/train2017/b.jpg", "width": 30, "height": 20,
         "neg_category_ids": [], "not_exhaustive_category_ids": []},
    ]  # fmt: skip
    content["categories"] = [{"id": 9, "name": "cat", "frequency": "r"}, {"id": 2, "name": "dog", "frequency": "f"}]
    truth = read_ground_truth(write(tmp_path, content))
    assert [image.name for image in truth.images] == ["val2017/a.jpg", "train2017/b.jpg"]
    assert truth.frequencies == ("f", "r")
    assert [image.absent for image in truth.images] == [{0}, set()]
    assert [image.not_exhaustive for image in truth.images] == [{1}, set()]


def test_sizes_are_requested_only_if_the_file_does_not_state_them(tmp_path: Path) -> None:
    def sizes() -> Mapping[str, tuple[int, int]]:
        return {"photos/val/a.jpg": (30, 20)}

    def never() -> Mapping[str, tuple[int, int]]:
        raise AssertionError

    content = coco_content()
    read_ground_truth(write(tmp_path, content), never)
    del content["images"][1]["width"], content["images"][1]["height"]
    image = read_ground_truth(write(tmp_path, content), sizes).images[0]
    assert (image.name, image.width, image.height) == ("val/a.jpg", 30, 20)
    with pytest.raises(FormatError, match=r"truth.json: image 3: a size of None x None; width and height"):
        read_ground_truth(tmp_path / "truth.json")


def test_yolo(tmp_path: Path) -> None:
    (tmp_path / "images" / "train").mkdir(parents=True)
    masks = {"a.png": [square(2, 3), square(10, 10, 7)], "b.png": []}
    for name, each in masks.items():
        Image.new("RGB", (30, 20)).save(tmp_path / "images" / "train" / name)
        instances = []
        for position, mask in enumerate(each):
            rle = mask_to_rle(mask)
            instances.append(Instance(position, "", rle_box_xyxy(rle), 1, 1, 1, rle_area(rle), rle))
        record = ImageRecord(name, 30, 20, "", instances=tuple(instances))
        write_yolo_labels(tmp_path / "labels" / "train" / f"{name[0]}.txt", record)
    (tmp_path / "data.yaml").write_text(data_yaml(["dog", "cat"], {"train": "train", "val": "train"}))
    for path in (tmp_path, tmp_path / "data.yaml", str(tmp_path)):
        truth = read_ground_truth(path)
        assert truth.class_names == ("dog", "cat")
        assert [image.name for image in truth.images] == ["a.png", "b.png"]  # each once, though in both splits
        assert [true.class_id for true in truth.images[0].instances] == [0, 1]
        for true, mask in zip(truth.images[0].instances, masks["a.png"], strict=True):
            np.testing.assert_array_equal(rle_to_mask(true.rle), mask)


def test_a_folder_of_images_and_coco(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg")
    (tmp_path / "_annotations.coco.json").write_text(json.dumps(coco_content()))
    assert read_ground_truth(tmp_path).class_names == ("dog", "cat")
    (tmp_path / "more.coco.json").write_text("{}")
    with pytest.raises(FormatError, match=r"in 2 files; name one of _annotations.coco.json, more.coco.json"):
        read_ground_truth(tmp_path)


LABEL_MAP = "background:0,0,0::\ndog:128,0,0::\ncat:0,128,0::\n"


def broken(folder: Path, what: str) -> Path:
    grey = np.zeros((20, 30), dtype=np.uint8)
    content = coco_content()
    if what == "missing":
        return folder / "nothing.json"
    if what == "torn":
        (folder / "truth.json").write_text(json.dumps(content)[:200])
    elif what == "no COCO":
        write(folder, {"images": []})
    elif what == "no name":
        content["images"][0]["file_name"] = ""
        write(folder, content)
    elif what == "root":
        content["images"][0]["file_name"] = "/"
        write(folder, content)
    elif what == "absent":
        content["images"][0]["neg_category_ids"] = [None]
        write(folder, content)
    elif what == "all twice":
        content["images"][0]["file_name"] = "val/a.jpg"
        write(folder, content)
    elif what == "empty folder":
        return folder
    elif what == "not binary":
        grey[2:4], grey[5:6] = 1, 2
        Image.fromarray(grey).save(folder / "a.png")
        return folder
    elif what == "grey classes":
        grey[2:6], grey[7:11], grey[12:16] = 85, 170, 255
        Image.fromarray(grey).save(folder / "a.png")
        return folder
    elif what == "a colour an image":
        for name, colour in (("a", (255, 0, 0)), ("b", (0, 255, 0))):
            pixels = np.zeros((20, 30, 3), dtype=np.uint8)
            pixels[2:9] = colour
            Image.fromarray(pixels).save(folder / f"{name}.png")
        return folder
    elif what == "16 bits":
        Image.fromarray(np.full((20, 30), 256, dtype=np.uint16)).save(folder / "a.png")
        (folder / "labelmap.txt").write_text(LABEL_MAP)
        return folder
    elif what == "colours without names":
        pixels = np.zeros((20, 30, 3), dtype=np.uint8)
        pixels[2:4], pixels[5:6] = (128, 0, 0), (0, 128, 0)
        Image.fromarray(pixels).save(folder / "a.png")
        return folder
    elif what in ("unknown colour", "label map"):
        pixels = np.full((20, 30, 3), 7, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "a.png")
        (folder / "labelmap.txt").write_text(LABEL_MAP if what == "unknown colour" else "dog:red::\n")
        return folder
    elif what == "same colour":
        Image.fromarray(grey).save(folder / "a.png")
        (folder / "labelmap.txt").write_text(LABEL_MAP + "cow:0,128,0::\n")
        return folder
    elif what == "classes":
        Image.fromarray(grey).save(folder / "a_mask.png")
        (folder / "_classes.csv").write_text("Pixel Value, Class\nbackground\n")
        return folder
    elif what == "torn image":
        Image.fromarray(grey).save(folder / "a.png")
        (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:50])
        return folder
    elif what == "data.yaml":
        (folder / "data.yaml").write_text("train: images\n")
        return folder
    return folder / "truth.json"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", r"nothing.json: no such ground truth; give a COCO .json"),
        ("torn", r"truth.json: not a COCO file \("),
        ("no COCO", r"truth.json: not a COCO file \(expected lists"),
        ("no name", r"truth.json: image at position 0: 'file_name' is empty"),
        ("root", r"truth.json: '/' is not the name of an image"),
        ("absent", r"truth.json: image 7: 'neg_category_ids' must list category ids"),
        ("all twice", r"truth.json: the image val/a.jpg is listed twice"),
        ("empty folder", r"no ground truth in it; give a COCO .json"),
        ("not binary", r"a.png: not binary, has the values \[1\] … and 2"),
        ("grey classes", r"a.png: not binary, has the values \[85, 170\] … and 255"),
        ("a colour an image", r"b.png: the mask's colour or value differs from that of earlier files"),
        ("16 bits", r"a.png: has values above 255"),
        ("colours without names", r"a.png: has several colours; name them in a labelmap.txt"),
        ("unknown colour", r"a.png: colour 7,7,7 is not in labelmap.txt; add a line name:7,7,7::"),
        ("label map", r"labelmap.txt:1: expected name:r,g,b:: with values from 0 to 255"),
        ("same colour", r"labelmap.txt:4: an earlier line has the same colour"),
        ("classes", r"_classes.csv:2: expected a pixel value from 0 to 255"),
        ("torn image", r"a.png: not a mask image \("),
        ("data.yaml", r"data.yaml: 'names' must be a list"),
    ],
)
def test_damaged_files(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(FormatError, match=message) as raised:
        read_ground_truth(broken(tmp_path, what))
    assert len(str(raised.value).splitlines()) == 1
