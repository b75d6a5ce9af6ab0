"""Exports of annotation tools that do not hold together: one line each, in plain words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labeler.annotation_tools.corrected import read_corrected
from labeler.errors import FormatError
from tests.support.coco_files import read_coco

IMAGE = {"id": 1, "file_name": "a.png", "width": 30, "height": 20}
OBJECT = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[2, 2, 9, 2, 9, 9]]}
REGION = {"original_width": 30, "original_height": 20}
POLYGON = {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["\ud800"]}


def coco(image: Any = None, annotation: Any = None, name: str = "dog") -> dict[str, Any]:
    image = image if isinstance(image, int) else IMAGE | (image or {})
    annotation = annotation if isinstance(annotation, int) else OBJECT | (annotation or {})
    return {"images": [image], "annotations": [annotation], "categories": [{"id": 1, "name": name}]}


def said(path: Path, content: Any, read: Any = read_corrected) -> str:
    path.write_text(json.dumps(content))
    with pytest.raises(FormatError) as caught:
        read(path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert len(line) < len(str(path)) + 200
    return line.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1], "task 0: a task is 1, not an object"),
        ([{"id": 10**400, "data": 5}], f"task {10**39}…: 'data' is 5, not an object"),
        ([{"id": 7, "data": {"image": 5}, "annotations": [{"result": []}]}], "task 7: the image's address is 5"),
        ([{"data": {"image": "/a"}, "annotations": [5]}], "task 0: an annotation is 5, not an object"),
        ([{"data": {"image": "/a"}, "annotations": [{"result": [5]}]}], "task 0: a region is 5, not an object"),
        ([{"data": {"image": "/a"}, "annotations": [{"result": [{"value": 5}]}]}], "task 0: 'value' is 5, not an obj"),
        ([{"data": {"image": "/\ud800"}, "annotations": [{"result": []}]}], "the image's address is not valid Unicode"),
        (
            [{"data": {"image": "/a"}, "annotations": [{"result": [{**REGION, "value": POLYGON}]}]}],
            "task 0: a label is not valid Unicode, but '\\ud800'",
        ),
        (coco({"file_name": "\ud800"}), "'file_name' is not valid Unicode, but '\\ud800'"),
        (coco(name="\ud800"), "'name' is not valid Unicode, but '\\ud800'"),
        (coco(image=5), "an entry of 'images' is 5, not an object"),
        (coco(annotation=5), "an entry of 'annotations' is 5, not an object"),
        (coco(annotation={"segmentation": 5}), "annotation 1: 'segmentation' is 5, neither polygons nor RLE"),
    ],
)
def test_corrections(content: Any, says: str, tmp_path: Path) -> None:
    assert says in said(tmp_path / "export.json", content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (coco({"file_name": "\ud800"}), "image at position 0: 'file_name' is not valid Unicode, but '\\ud800'"),
        (coco(name="\ud800"), "category at position 0: 'name' is not valid Unicode, but '\\ud800'"),
        (coco(annotation={"segmentation": None}), "annotation 1: it has neither a mask nor a box"),
        (coco(annotation={"image_id": 10**400}), f"annotation 1: names image {10**39}…, which the file does not hold"),
        (coco(annotation={"category_id": [1]}), "annotation 1: 'category_id' is [1], which is no id"),
        (coco(annotation=5), "annotation 0: 5 is not an annotation"),
    ],
)
def test_ground_truth(content: Any, says: str, tmp_path: Path) -> None:
    assert says in said(tmp_path / "truth.json", content, read_coco)
