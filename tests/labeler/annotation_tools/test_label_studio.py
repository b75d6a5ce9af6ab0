from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from labeler.annotation_tools.corrections import CorrectedImage, compare
from labeler.annotation_tools.fiftyone import read_corrected_coco
from labeler.annotation_tools.label_studio import (
    brush_to_rle,
    labeling_config,
    rle_to_brush,
    write_label_studio,
)
from labeler.annotation_tools.label_studio_reader import read_label_studio
from labeler.errors import FormatError
from labeler.geometry.masks import mask_to_rle, rle_to_mask
from tests.support.hard_masks import HARD_MASKS, iou, random_masks
from tests.support.sent_images import CLASSES, hard_images, sent_image

MASKS = {**HARD_MASKS, **{f"random {index}": mask for index, mask in enumerate(random_masks(20))}}
NO_SDK = "label-studio-sdk wants numpy below 2.3 and opencv below 4.13, which would hold this project's tests back"


def annotated(tasks: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """The tasks as Label Studio exports them when each prediction was submitted as it was."""
    exported = []
    for number, task in enumerate(tasks, start=1):
        result = [{**region, "origin": "prediction"} for region in task["predictions"][0]["result"]]
        annotation = {
            "id": number,
            "result": result,
            "was_cancelled": False,
            "updated_at": "2026-01-01T10:00:00Z",
            **more,
        }
        exported.append({"id": number, "data": task["data"], "annotations": [annotation], "predictions": [7]})
    return exported


def tasks_of(folder: Path, *images: Any, url: str = "/data/local-files/?d=set/images/") -> list[dict[str, Any]]:
    write_label_studio(folder, images, CLASSES, url)
    return json.loads((folder / "tasks.json").read_text())  # type: ignore[no-any-return]


def test_masks_come_back() -> None:
    for name, mask in MASKS.items():
        height, width = mask.shape
        rle = mask_to_rle(mask)
        assert brush_to_rle(rle_to_brush(rle), width, height) == rle, name


def test_a_mask_as_the_encoding_says() -> None:
    """4 bytes of 0, 4 of 255: 32 bits of the length, 5 of the word, 4 x 4 of sizes; two runs of 1 + 2 + 3 + 8 bits."""
    bits = f"{8:032b}0011100100011011111111000110000000010001111111111"
    bits += "0" * (-len(bits) % 8)
    wanted = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert rle_to_brush(mask_to_rle(np.array([[False, True]]))) == wanted


def test_long_runs_are_split() -> None:
    mask = np.zeros((300, 400), dtype=bool)
    mask[299, 399] = mask[100, 0] = True
    rle = mask_to_rle(mask)
    assert brush_to_rle(rle_to_brush(rle), 400, 300) == rle


def test_bytes_are_those_of_the_sdk() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=NO_SDK)
    for mask in MASKS.values():
        encoded = rle_to_brush(mask_to_rle(mask))
        assert encoded == brush.mask2rle(mask.astype(np.uint8) * 255)
        decoded = brush.decode_rle(encoded).reshape(*mask.shape, 4)
        assert all(np.array_equal(decoded[..., channel] == 255, mask) for channel in range(4))


def test_the_sdk_encodes_drawn_strokes_of_any_alpha() -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason=NO_SDK)
    image = np.random.default_rng(0).integers(0, 256, (23, 31, 4)).astype(np.uint8)  # runs of one value are literals
    image[5:15, 3:20] = (10, 20, 30, 255)
    decoded = rle_to_mask(brush_to_rle(brush.encode_rle(image.ravel()), 31, 23))
    assert np.array_equal(decoded, image[..., 3] >= 128)


def test_tasks_are_valid_by_the_sdk(tmp_path: Path) -> None:
    interface = pytest.importorskip("label_studio_sdk.label_interface", reason=NO_SDK)
    config = interface.LabelInterface(labeling_config(CLASSES))
    for task in tasks_of(tmp_path, *hard_images()):
        assert config.validate_prediction(task["predictions"][0], return_errors=True) == []
    task["predictions"][0]["result"][0]["value"]["brushlabels"] = ["dog"]
    assert config.validate_prediction(task["predictions"][0], return_errors=True)


def test_what_is_written(tmp_path: Path) -> None:
    image = sent_image("a b.png", HARD_MASKS["holes"], ~HARD_MASKS["holes"])
    (task,) = tasks_of(tmp_path, image)
    assert task["data"] == {"image": "/data/local-files/?d=set/images/a%20b.png"}
    (prediction,) = task["predictions"]
    assert prediction["score"] == 0.25  # the least certain
    first, second = prediction["result"]
    assert (first["original_width"], first["original_height"]) == (90, 90)
    assert (first["id"], second["score"]) == (image.instances[0].object_id, 0.26)
    assert second["value"]["brushlabels"] == [CLASSES[1]]
    config = ElementTree.parse(tmp_path / "labeling_config.xml").getroot()
    assert [label.get("value") for label in config.iter("Label")] == CLASSES
    tags = {tag.get("name"): tag for tag in config}
    assert tags[first["from_name"]].get("toName") == first["to_name"]
    assert tags[first["to_name"]].get("value") == "$image"


@pytest.mark.parametrize("url", ["/data/local-files/?d=set/images/", "https://host/a%20b/", "s3://bucket/set/"])
def test_what_was_not_touched_comes_back_as_it_was(tmp_path: Path, url: str) -> None:
    images = hard_images()
    back = read_label_studio(annotated(tasks_of(tmp_path, *images, url=url)))
    for image, corrected in zip(images, back, strict=True):
        assert corrected.name.endswith(f"/{image.name}") or corrected.name == image.name
        assert [each.object_id for each in corrected.instances] == [each.object_id for each in image.instances]
        decisions = compare(image, corrected)
        assert [(d.verdict, d.new_class, d.new_rle) for d in decisions] == [("accept", None, None)] * len(decisions)
        assert [each.rle for each in corrected.instances] == [each.rle for each in image.instances]


def test_json_min_by_the_sdk(tmp_path: Path) -> None:
    converter = pytest.importorskip("label_studio_sdk.converter", reason=NO_SDK)
    images = hard_images()[:6]
    exported = annotated(tasks_of(tmp_path, *images))
    exported[-1]["annotations"] = []
    (tmp_path / "export.json").write_text(json.dumps(exported))
    make = converter.Converter(labeling_config(CLASSES), str(tmp_path))
    make.convert(str(tmp_path / "export.json"), str(tmp_path / "min"), "JSON_MIN", is_dir=False)
    minimal = json.loads((tmp_path / "min" / "result.json").read_text())
    back = read_label_studio(minimal)
    assert len(back) == 5  # the last one was not annotated
    for image, corrected in zip(images, back, strict=False):
        assert [each.rle for each in corrected.instances] == [each.rle for each in image.instances]
        assert {each.object_id for each in corrected.instances} == {""}
        assert all(d.verdict == "accept" and not d.new_rle and not d.new_class for d in compare(image, corrected))


def test_coco_by_the_sdk(tmp_path: Path) -> None:
    """Its outlines run through pixel centres and have no holes; what is a line or a pixel is lost."""
    exports = pytest.importorskip("label_studio_sdk.converter", reason=NO_SDK)
    names = ("holes", "nested islands", "spiral", "holes at a corner", "hole open at a corner", "full image")
    images = [sent_image(f"{place}.png", HARD_MASKS[name]) for place, name in enumerate(names)]
    (tmp_path / "export.json").write_text(json.dumps(annotated(tasks_of(tmp_path, *images))))
    make = exports.Converter(labeling_config(CLASSES), str(tmp_path), download_resources=False)
    make.convert(str(tmp_path / "export.json"), str(tmp_path / "coco"), "BRUSH_TO_COCO", is_dir=False)
    (path,) = (tmp_path / "coco").rglob("*.json")
    content = json.loads(path.read_text())
    found = {corrected.name.rpartition("/")[2]: corrected for corrected in read_corrected_coco(content)}
    for image in images:
        (decision,) = compare(image, found[image.name])
        assert (decision.verdict, decision.new_class, decision.new_rle) == ("accept", None, None), image.name


def test_polygons_boxes_and_deleted_regions(tmp_path: Path) -> None:
    mask = np.zeros((50, 100), dtype=bool)
    mask[10:30, 20:60] = True
    (task,) = annotated(tasks_of(tmp_path, sent_image("a.png", mask, ~mask)))
    region = task["annotations"][0]["result"][0]
    size = {"original_width": 100, "original_height": 50}
    points = [[20, 20], [60, 20], [60, 60], [20, 60]]  # per cent
    polygon = {"id": "new", "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["cat"]}, **size}
    box = {"id": "box", "type": "rectanglelabels", "value": {"rectanglelabels": ["cat"], "x": 1}, **size}
    task["annotations"][0]["result"] = [region, polygon, box]
    (image,) = read_label_studio([task])
    assert [(each.kind, each.object_id) for each in image.unread] == [("rectanglelabels", "box")]
    assert [each.outlined for each in image.instances] == [False, True]
    assert iou(rle_to_mask(image.instances[1].rle), mask) == 1


def test_which_annotation_counts(tmp_path: Path) -> None:
    (task,) = annotated(tasks_of(tmp_path, sent_image("a.png", *[HARD_MASKS["holes"]] * 3)))
    whole = task["annotations"][0]

    def having(regions: int, day: int, **more: Any) -> dict[str, Any]:
        return {**whole, "result": whole["result"][:regions], "updated_at": f"2026-01-{day:02d}T00:00:00Z", **more}

    def regions(*annotations: dict[str, Any]) -> list[int]:
        return [len(image.instances) for image in read_label_studio([{**task, "annotations": list(annotations)}])]

    assert regions(having(1, 5), having(2, 9), having(3, 7)) == [2]
    assert regions(having(1, 5, ground_truth=True), having(2, 9)) == [1]
    assert regions(having(1, 5), having(2, 9, was_cancelled=True)) == [1]
    assert regions(having(0, 5)) == [0]  # all were deleted
    assert regions(having(2, 9, was_cancelled=True)) == []
    assert regions() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda region: region["value"]["rle"].__delitem__(slice(10, None)), "cut short"),
        (lambda region: region.update(original_width=91), "91 x 90"),
        (lambda region: region.pop("original_width"), "'original_width' is missing"),
        (lambda region: region["value"].update(rle=[300]), "range"),
        (lambda region: region["value"].update(rle="text"), "task 1"),
        (lambda region: region.update(value={"points": [], "polygonlabels": ["a"]}), "polygon"),
    ],
)
def test_what_does_not_hold_together(tmp_path: Path, change: Any, message: str) -> None:
    exported = annotated(tasks_of(tmp_path, sent_image("a.png", HARD_MASKS["holes"])))
    change(exported[0]["annotations"][0]["result"][0])
    with pytest.raises(FormatError, match=message) as error:
        read_label_studio(exported)
    assert "task 1" in str(error.value)
    assert "\n" not in str(error.value)


def test_not_tasks() -> None:
    for tasks in ([1], [{}], [{"data": {}, "annotations": [{"result": []}]}]):
        with pytest.raises(FormatError, match="task"):
            read_label_studio(tasks)
    assert read_label_studio([]) == list[CorrectedImage]()
