"""``labeler label --boxes``: masks for boxes that are already there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeler.demo.scenes import class_name, make_scene, scene_rng
from labeler.geometry.masks import mask_iou, mask_to_rle, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.models.loading import load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts
from labeler.record_files import read_records
from labeler.records import ImageRecord
from tests.support.command_line import Run

DEMO = ("--model", "demo", "--device", "cpu")
NAMES = ("a.png", "sub/b.png")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, one in a subfolder, and their boxes as COCO, YOLO and Pascal VOC; ``masks.json`` has their masks."""
    root = tmp_path_factory.mktemp("boxes")
    scenes = [make_scene(scene_rng(5, index)) for index in range(2)]
    names = sorted({class_name(pair) for scene in scenes for pair in scene.pairs})
    coco: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    coco["categories"] = [{"id": index + 1, "name": name} for index, name in enumerate(names)]
    masks: dict[str, list[Any]] = {}
    for number, (name, scene) in enumerate(zip(NAMES, scenes, strict=True), start=1):
        height, width = scene.image.shape[:2]
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.image).save(path)
        coco["images"].append({"id": number, "file_name": name, "width": width, "height": height})
        lines, objects = [], []
        for index, pair in enumerate(scene.pairs):
            rle = mask_to_rle(scene.mask(index))
            x1, y1, x2, y2 = rle_box_xyxy(rle)
            class_id = names.index(class_name(pair))
            masks.setdefault(name, []).append((class_name(pair), (x1, y1, x2, y2), rle))
            coco["annotations"].append(
                {"id": len(coco["annotations"]), "image_id": number, "category_id": class_id + 1,
                 "bbox": [x1, y1, x2 - x1, y2 - y1]}
            )  # fmt: skip
            centre = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
            lines.append(f"{class_id} {centre[0]} {centre[1]} {(x2 - x1) / width} {(y2 - y1) / height}")
            objects.append(
                f"<object><name>{class_name(pair)}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
                f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            )
        yolo = root / "yolo" / "images" / name
        yolo.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, yolo)
        label = root / "yolo" / "labels" / Path(name).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines))
        voc = root / "voc" / Path(name).with_suffix(".xml")
        voc.parent.mkdir(parents=True, exist_ok=True)
        voc.write_text(
            f"<annotation><filename>{Path(name).name}</filename><size><width>{width}</width><height>{height}</height>"
            f"</size>{''.join(objects)}</annotation>"
        )
    (root / "yolo" / "data.yaml").write_text(f"train: images\nval: images\nnames: {json.dumps(names)}\n")
    (root / "boxes.json").write_text(json.dumps(coco))
    np.save(root / "truth.npy", np.array([masks], dtype=object), allow_pickle=True)
    return root


def truth_of(given: Path) -> dict[str, list[Any]]:
    masks: dict[str, list[Any]] = np.load(given / "truth.npy", allow_pickle=True)[0]
    return masks


def records(out: Path) -> dict[str, ImageRecord]:
    return {record.image_id: record for record in read_records(sorted((out / "run" / "records").glob("*.parquet")))}


def test_every_format_gives_the_masks_of_its_boxes(given: Path, tmp_path: Path, labeler: Run) -> None:
    truth = truth_of(given)
    read = []
    for number, source in enumerate(("boxes.json", "yolo/data.yaml", "voc")):
        out = tmp_path / str(number)
        result = labeler("label", given / "images", "-o", out, "--boxes", given / source, *DEMO)
        assert result.returncode == 0, result.stderr
        read.append(records(out))
    names = [spec["name"] for spec in json.loads((tmp_path / "0/run/run.json").read_text())["ontology"]["classes"]]
    segmenter = load_segmenter(ModelConfig("", "embedded:segmenter", device="cpu"))
    for image_id, objects in truth.items():
        record = read[0][image_id]
        assert [(names[each.class_id], each.box_xyxy, each.score) for each in record.instances] == [
            (name, box, 1.0) for name, box, _ in objects
        ]
        pixels = np.asarray(Image.open(given / "images" / image_id))
        (masks,) = segmenter.segment(
            [pixels], [SegmentPrompts.of_boxes(np.array([box for _, box, _ in objects], np.float32))]
        )
        ours = [each.rle for each in record.instances]
        same = mask_iou(ours, [mask.rle for mask in masks]).diagonal()
        assert same.min() > 0.99
        assert mask_iou(ours, [rle for _, _, rle in objects]).diagonal().mean() > 0.8
        for other in read[1:]:
            assert [each.prompt for each in other[image_id].instances] == [each.prompt for each in record.instances]
            boxes = np.array([each.box_xyxy for each in other[image_id].instances])
            assert np.abs(boxes - [each.box_xyxy for each in record.instances]).max() < 1e-3


def test_only_some_classes_under_other_names(given: Path, tmp_path: Path, labeler: Run) -> None:
    names = sorted({name for objects in truth_of(given).values() for name, _, _ in objects})
    asked = f"{names[0].upper()}=thing"
    arguments = ("label", given / "images", "-o", tmp_path / "out", "--boxes", given / "boxes.json", *DEMO)
    assert labeler(*arguments, "--classes", asked).returncode == 0
    count = sum(name == names[0] for objects in truth_of(given).values() for name, _, _ in objects)
    assert sum(len(record.instances) for record in records(tmp_path / "out").values()) == count
    other = labeler(*arguments[:3], tmp_path / "other", *arguments[4:], "--classes", f"{names[0]}x")
    assert other.returncode == 2
    assert f"has no class '{names[0]}x'; did you mean '{names[0]}'?" in other.stderr


def test_boxes_and_images_that_do_not_fit(given: Path, tmp_path: Path, labeler: Run) -> None:
    content = json.loads((given / "boxes.json").read_text())
    content["annotations"] = [each for each in content["annotations"] if each["image_id"] == 1]
    width = content["images"][0]["width"]
    content["annotations"][0]["bbox"] = [width + 5, 5, 10, 10]  # outside
    content["annotations"][1]["bbox"] = [width - 20, 10, 40, 30]  # half outside
    content["images"][1]["file_name"] = "gone.png"
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    result = labeler("label", given / "images", "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json", *DEMO)
    assert result.returncode == 1
    assert "1 annotation that cannot be read: left out (0: the box has no area in the image)" in result.stdout
    assert "1 image is not named in" in result.stdout
    assert "1 image is named in" in result.stdout
    assert "not in the input (gone.png)" in result.stdout
    labeled = records(tmp_path / "out")
    assert labeled["sub/b.png"].error == "the file of boxes does not name this image"
    assert len(labeled["a.png"].instances) == len(content["annotations"]) - 1
    assert labeled["a.png"].instances[0].box_xyxy == (width - 20, 10, width, 40)
    content["images"][0]["width"] = 2 * width  # boxes of a larger copy of the image
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    refused = labeler("label", given / "images", "-o", tmp_path / "out", "--boxes", tmp_path / "boxes.json", *DEMO)
    assert refused.returncode == 2
    assert "labeled with another box_file" in refused.stderr
    scaled = labeler("label", given / "images", "-o", tmp_path / "new", "--boxes", tmp_path / "boxes.json", *DEMO)
    assert scaled.returncode == 3, scaled.stderr
    assert f"the boxes are for {2 * width} x " in records(tmp_path / "new")["a.png"].error


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        ({"images": [], "annotations": [], "categories": []}, (), "names no classes"),
        ("none of ours", (), r"names none of the 2 images; it names z\.jpg"),
        ("two fit", (), r"it is not clear which boxes are those of"),
        ("[1, 2", (), "not a COCO file"),
        (None, (), "no such file of boxes"),
        ("boxes", ("--labeler", "grounded-sam"), "leave out --labeler grounded-sam"),
        ("boxes", ("--detector", "a/b"), "leave out --detector"),
    ],
)
def test_a_file_that_cannot_be_meant(
    content: Any, more: tuple[str, ...], message: str, given: Path, tmp_path: Path, labeler: Run
) -> None:
    path, images = tmp_path / "boxes.json", given / "images"
    whole = json.loads((given / "boxes.json").read_text())
    if content == "none of ours":
        whole["images"] = [
            {**image, "file_name": f"{name}.jpg"} for image, name in zip(whole["images"], "zy", strict=True)
        ]
    elif content == "two fit":
        images = tmp_path / "images"
        for name in ("one/a.png", "two/a.png"):
            (images / name).parent.mkdir(parents=True)
            shutil.copy(given / "images" / "a.png", images / name)
    if content is not None:
        path.write_text(content if content == "[1, 2" else json.dumps(content if isinstance(content, dict) else whole))
    result = labeler("label", images, "-o", tmp_path / "out", "--boxes", path, *more, *DEMO)
    assert result.returncode in (2, 3), result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("labeler: ")]
    assert message.replace("\\", "") in line
    assert not (tmp_path / "out" / "run" / "records").exists()
