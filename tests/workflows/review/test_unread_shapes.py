"""Objects that come back from a tool in a form that is no mask are not rejected: there is no decision on them."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from PIL import Image

from labeler.annotation_tools.cvat import read_cvat
from labeler.annotation_tools.label_studio_reader import read_label_studio
from labeler.errors import FormatError
from labeler.geometry.masks import rle_to_mask
from tests.support.hard_masks import iou
from tests.support.reviews import FAR, NEAR, SURE, labeled
from workflows.dataset.labeled import Labeled, open_labeled
from workflows.review.corrections import corrections
from workflows.review.exchange import export_review_set

Region = dict[str, Any]


@pytest.fixture
def sent(tmp_path: Path) -> Labeled:
    """One image with three objects."""
    return open_labeled(labeled(tmp_path, (SURE, NEAR, FAR)).output)


def verdicts(sent: Labeled, path: Path) -> dict[int, str]:
    return {each.instance.index: each.verdict for each in corrections(sent, path) if each.instance is not None}


def studio(sent: Labeled, folder: Path, change: Callable[[list[Region]], Any], **annotation: Any) -> Path:
    """Label Studio's export, in which ``change`` has changed the regions."""
    export_review_set(sent, "label-studio", folder, "all")
    tasks = json.loads((folder / "tasks.json").read_text())
    for number, task in enumerate(tasks, start=1):
        regions = task.pop("predictions")[0]["result"]
        regions = change(regions) or regions
        task |= {"id": number, "annotations": [{"id": number, "result": regions, "was_cancelled": False, **annotation}]}
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def with_labels_tag(regions: list[Region]) -> None:
    """As a project with <Brush> and <Labels> has it, in one result."""
    for region in regions:
        region["type"] = "brush"
        region["value"]["labels"] = region["value"].pop("brushlabels")


def in_two_results(regions: list[Region]) -> list[Region]:
    """As Label Studio exports it: one result of the brush, without a label, and one of the label."""
    both = []
    for region in regions:
        value = {key: region["value"][key] for key in ("format", "rle")}
        both.append({**region, "type": "brush", "value": value})
        both.append({**region, "type": "labels", "value": {**value, "labels": region["value"]["brushlabels"]}})
        both.append({"id": region["id"], "type": "choices", "value": {"choices": ["occluded"]}})
    return both


def as_pictures(regions: list[Region]) -> None:
    """As the bitmask tool exports it."""
    for region, item in zip(regions, (SURE, NEAR, FAR), strict=True):
        stream = io.BytesIO()
        mask = rle_to_mask(item.rle).astype(np.uint8) * 255
        Image.fromarray(np.stack([mask] * 4, axis=2), "RGBA").save(stream, "PNG")
        url = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
        region |= {"type": "bitmasklabels", "value": {"imageDataURL": url, "bitmasklabels": ["dog"]}}


@pytest.mark.parametrize("change", [with_labels_tag, in_two_results, as_pictures])
def test_a_mask_of_any_type_is_read(change: Callable[[list[Region]], Any], sent: Labeled, tmp_path: Path) -> None:
    decisions = corrections(sent, studio(sent, tmp_path / "set", change))
    assert [(each.verdict, each.new_class, each.new_rle) for each in decisions] == [("accept", None, None)] * 3


def test_two_labels_of_one_shape() -> None:
    """With an id they are two labels of one object, and without ids two objects."""
    shape = {"points": [[10, 10], [50, 10], [50, 50]], "original_width": 60, "original_height": 40}
    labels = ({"labels": ["dog"]}, {"labels": ["cat"]})
    minimal = {"image": "/a.png", "annotation_id": 1, "labels": [{**shape, **label} for label in labels]}
    (image,) = read_label_studio([minimal])
    assert [each.class_name for each in image.instances] == ["dog", "cat"]
    result = [{"id": "a", "type": "labels", **shape, "value": {**shape, **label}} for label in labels]
    (image,) = read_label_studio([{"data": {"image": "/a.png"}, "annotations": [{"result": result}]}])
    assert (image.instances, [each.kind for each in image.unread]) == ((), ["labels with 2 labels"])


def test_masks_are_read_without_ids_and_types(sent: Labeled, tmp_path: Path) -> None:
    """JSON-MIN of the same project."""
    path = studio(sent, tmp_path / "set", in_two_results)
    (task,) = json.loads(path.read_text())
    size = {"original_width": 60, "original_height": 40}
    results = task["annotations"][0]["result"]
    by_tag = {kind: [{**e["value"], **size} for e in results if e["type"] == kind] for kind in ("brush", "labels")}
    path.write_text(json.dumps([{"image": task["data"]["image"], "id": 1, "annotation_id": 1, **by_tag}]))
    assert verdicts(sent, path) == {0: "accept", 1: "accept", 2: "accept"}


BOX = {"x": 1, "y": 1, "width": 20, "height": 20, "rotation": 0}


@pytest.mark.parametrize(
    ("type_", "value", "kind"),
    [
        ("rectanglelabels", {**BOX, "rectanglelabels": ["dog"]}, "rectanglelabels"),
        ("keypointlabels", {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["dog"]}, "keypointlabels"),
        ("vectorlabels", {"vertices": [{"x": 1, "y": 1}], "vectorlabels": ["dog"]}, "vectorlabels"),
        ("brush", {"format": "rle", "rle": [0]}, "brush with no labels"),
        ("brushlabels", {"format": "rle", "rle": [0], "brushlabels": ["dog", "cat"]}, "brushlabels with 2 labels"),
        (
            "polygonlabels",
            {"points": [[1, 1], [9, 1], [9, 9]], "closed": False, "polygonlabels": ["dog"]},
            "polygonlabels",
        ),
        ("later", {}, "later"),
    ],
)
def test_what_cannot_be_read_is_no_decision_and_named(
    type_: str, value: Region, kind: str, sent: Labeled, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def change(regions: list[Region]) -> None:
        regions[0] |= {"type": type_, "value": value}
        del regions[1]

    path = studio(sent, tmp_path / "set", change)
    with caplog.at_level(logging.WARNING):
        assert verdicts(sent, path) == {1: "reject", 2: "accept"}
    first, second = caplog.messages
    assert first == f"{path}: 1 shape of type {kind} cannot be read as a mask"
    assert second.startswith(f"{path}: 1 object stays undecided")


def test_all_in_an_unknown_form(sent: Labeled, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def change(regions: list[Region]) -> None:
        for region in regions:
            region["value"] = {"brush": "of tomorrow"}

    with caplog.at_level(logging.WARNING):
        assert corrections(sent, studio(sent, tmp_path / "set", change)) == []
    assert "3 objects stay undecided" in caplog.text


def test_an_unread_shape_of_its_own_may_be_any_object_that_is_missing(sent: Labeled, tmp_path: Path) -> None:
    """A brush that was replaced by a rectangle has another id."""

    def change(regions: list[Region]) -> None:
        regions[0] |= {"id": "xY_9", "type": "rectanglelabels", "value": {**BOX, "rectanglelabels": ["dog"]}}

    assert verdicts(sent, studio(sent, tmp_path / "set", change)) == {1: "accept", 2: "accept"}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ({"parent_prediction": 5}, ["reject"] * 3),
        ({}, ["reject"] * 3),
        ({"parent_prediction": None, "parent_annotation": 4}, ["reject"] * 3),
        ({"parent_prediction": None, "prediction": {"id": 5}}, ["reject"] * 3),
        ({"parent_prediction": None, "prediction": {}}, None),
        ({"was_cancelled": True}, None),
    ],
)
def test_an_empty_annotation_rejects_if_it_began_with_the_objects(
    annotation: Region, expected: list[str] | None, sent: Labeled, tmp_path: Path
) -> None:
    path = studio(sent, tmp_path / "set", lambda regions: regions.clear(), **annotation)
    if expected is None:
        with pytest.raises(FormatError, match="nobody has reviewed an image of it yet"):
            corrections(sent, path)
    else:
        assert [each.verdict for each in corrections(sent, path)] == expected


def test_an_ellipse_is_an_outline() -> None:
    value = {"x": 50, "y": 40, "radiusX": 30, "radiusY": 10, "rotation": 30, "ellipselabels": ["dog"]}
    region = {"id": "a", "type": "ellipselabels", "original_width": 200, "original_height": 200, "value": value}
    (image,) = read_label_studio([{"data": {"image": "/a.png"}, "annotations": [{"result": [region]}]}])
    drawn = cv2.ellipse(np.zeros((200, 200), np.uint8), (100, 80), (60, 20), 30, 0, 360, 1, cv2.FILLED)
    assert iou(rle_to_mask(image.instances[0].rle), drawn == 1) > 0.95
    xml = (
        '<annotations><image name="a.png" width="200" height="200"><ellipse label="dog" cx="100" cy="80" rx="60" '
        'ry="20" rotation="30"><attribute name="labeler_id">a</attribute></ellipse></image></annotations>'
    )
    (image,) = read_cvat(xml.encode())
    assert iou(rle_to_mask(image.instances[0].rle), drawn == 1) > 0.95
    assert image.instances[0].object_id == "a"


@pytest.mark.parametrize("tag", ["box", "polyline", "points", "cuboid", "skeleton", "of_tomorrow"])
def test_shapes_of_cvat(tag: str, sent: Labeled, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export_review_set(sent, "cvat", tmp_path / "set", "all")
    path = tmp_path / "set" / "annotations.xml"
    tree = ElementTree.parse(path)
    first, second, _ = tree.iter("mask")
    first.tag = tag
    ElementTree.SubElement(first, "points", {"label": "nose"})
    (image,) = tree.iter("image")
    image.remove(second)
    tree.write(path)
    with caplog.at_level(logging.WARNING):
        assert verdicts(sent, path) == {1: "reject", 2: "accept"}
    assert f"1 shape of type {tag} cannot be read" in caplog.text


def test_annotations_without_a_mask(sent: Labeled, tmp_path: Path) -> None:
    export_review_set(sent, "fiftyone", tmp_path / "set", "all")
    path = tmp_path / "set" / "labels.json"
    content = json.loads(path.read_text())
    first, _, third = content["annotations"]
    first["segmentation"] = []
    path.write_text(json.dumps({**content, "annotations": [first, third]}))
    assert verdicts(sent, path) == {1: "reject", 2: "accept"}
    del first["labeler_id"]  # another program has kept the box alone
    path.write_text(json.dumps({**content, "annotations": [first, third]}))
    assert verdicts(sent, path) == {2: "accept"}


def test_an_image_of_another_kind_and_the_same_stem_is_another(sent: Labeled, tmp_path: Path) -> None:
    """In a project with other images, ``a.jpg`` is not the ``a.png`` that was sent."""
    path = studio(sent, tmp_path / "set", lambda regions: regions.clear())
    path.write_text(path.read_text().replace("a.png", "a.jpg"))
    assert corrections(sent, path) == []


def test_an_export_without_a_single_object_is_refused(tmp_path: Path) -> None:
    """COCO from Label Studio has no masks of brushes, and a CVAT task without the uploaded annotations has none."""
    sent = open_labeled(labeled(tmp_path, (SURE, NEAR), "a.png", "b.png").output)
    export_review_set(sent, "fiftyone", tmp_path / "set", "all")
    path = tmp_path / "set" / "labels.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(FormatError, match="images without a single object; export the masks too"):
        corrections(sent, path)
    xml = "".join(f'<image name="{name}.png" width="60" height="40"/>' for name in "ab")
    (tmp_path / "a.xml").write_text(f"<annotations>{xml}</annotations>")
    with pytest.raises(FormatError, match="none of the 4 objects in 2 images came back, so it seems to be without"):
        corrections(sent, tmp_path / "a.xml")
    path.write_text(json.dumps({**content, "annotations": content["annotations"][:1]}))
    assert [each.verdict for each in corrections(sent, path)] == ["reject", "accept", "reject", "reject"]
