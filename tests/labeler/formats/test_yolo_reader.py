"""YOLO datasets as others write them, next to what Ultralytics' own loader makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeler.errors import FormatError
from labeler.formats.yolo_reader import read_yolo
from labeler.geometry.masks import rle_area, rle_to_mask
from labeler.ground_truth import GroundTruth
from tests.support.yolo_files import BOX, HEIGHT, SQUARE, WIDTH, dataset, names


def one(root: Path, text: str, more: str = "") -> GroundTruth:
    """What is read of a dataset of one image with these labels."""
    yaml = f"train: images\nval: images\nnames: [cat, dog]\n{more}"
    return read_yolo(dataset(root, {"images/a.png": text}, yaml))


def in_ultralytics(root: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> tuple[Any, ...]:
    """What Ultralytics' own loader makes of the same image: boxes with classes, polygons, and whether it is corrupt."""
    utils = pytest.importorskip("ultralytics.data.utils")
    keypoints, values = (17, 3) if "kpt_shape" in more else (0, 0)
    image, labels = root / "images" / "a.png", root / "labels" / "a.txt"
    found = utils.verify_image_label((str(image), str(labels), "", False, 2, keypoints, values, False))
    return found[1], found[3], found[8]


def test_classes_of_one_name_are_one(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"images/a.png": f"{BOX}\n2{BOX[1:]}"}, "train: images\nnames: [cat, Big Dog, big_dog]\n")
    truth = read_yolo(path)
    assert truth.class_names == ("cat", "Big Dog")
    assert [each.class_id for each in truth.images[0].instances] == [1, 1]
    assert "1 class with the name of another: one class with it (big_dog)" in truth.notes


KEYPOINTS = " ".join(["0.5 0.5 2"] * 17)


@pytest.mark.parametrize(
    ("text", "more", "boxes", "areas"),
    [
        (BOX, "", 1, [200]),
        ("\ufeff" + BOX.replace(" ", "\t") + "\r\n\r\n", "", 1, [200]),
        (f"{BOX} {KEYPOINTS}", "kpt_shape: [17, 3]", 1, [200]),
        (f"{BOX}\n{BOX}\n", "", 1, [200]),
        ("1 0.75 0.5 0.505 1.01", "", 1, [400]),  # a hair outside
        ("1 -0.005 0.5 0.5 0.5", "", 1, [100]),
        (f"{SQUARE}\n{SQUARE}", "", 0, [None]),
        ("0 0.5 0.5 1.005 0.5 1.005 1.005 0.5 1.005", "", 0, [200]),
        ("0 -0.1 0.0 0.3 0.0 0.3 0.5 -0.1 0.5", "", 0, [143]),  # its middle is inside
        ("", "", 0, []),
    ],
)
def test_the_same_objects_as_ultralytics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, more: str, boxes: int, areas: list[int | None]
) -> None:
    (image,) = one(tmp_path, text, more).images
    assert [each.box_only for each in image.instances] == [number < boxes for number in range(len(areas))]
    for each, area in zip(image.instances, areas, strict=True):
        assert area is None or rle_area(each.rle) == area
    rows, segments, corrupt = in_ultralytics(tmp_path, monkeypatch, more)
    assert (corrupt, len(rows)) == (0, len(areas))
    assert [each.class_id for each in image.instances] == rows[:, 0].tolist()
    if boxes:
        ((x, y, width, height),) = rows[:, 1:] * (WIDTH, HEIGHT, WIDTH, HEIGHT)
        expected = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        np.testing.assert_allclose(image.instances[0].box, expected, rtol=1e-6)
    elif areas:
        utils = pytest.importorskip("ultralytics.data.utils")
        (mask,) = utils.polygons2masks((HEIGHT, WIDTH), [segments[0] * np.float32([WIDTH, HEIGHT])], color=1)
        np.testing.assert_array_equal(rle_to_mask(image.instances[0].rle), mask.astype(bool))


@pytest.mark.parametrize(
    ("line", "message", "unsure"),
    [
        ("3 0.5 0.5 0.1 0.1", "class 3, but data.yaml names 2 classes", {0, 1}),
        ("-1 0.5 0.5 0.1 0.1", "class -1", {0, 1}),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5", {0, 1}),
        ("0 0.5 0.5 0.1", "3 coordinates; expected 4", {0}),
        ("0 0.5 0.5 0.1 0.1 0.2 0.2 0.3", "7 coordinates", {0}),
        ("1 0.5 0.5", "2 coordinates", {1}),
        ("0", "0 coordinates", {0}),
        ("cat 0.5 0.5 0.1 0.1", "could not convert string to float", {0, 1}),
        ("0 0.5 0.5 0.1 1.1", "outside [0, 1]", {0}),
        ("0 0.5 0.5 0.1 -0.1", "outside [0, 1]", {0}),
        ("0 0.5 0.5 0.1 nan", "outside [0, 1]", {0}),
        ("0 20 10 30 10 30 15", "outside [0, 1]", {0}),
        ("0 0.5 0.5 0 0", "no area", {0}),
    ],
)
def test_a_line_that_cannot_be_read(tmp_path: Path, line: str, message: str, unsure: set[int]) -> None:
    """It is left out and named, or refused if it is the only one."""
    labels = tmp_path / "labels" / "a.txt"
    truth = one(tmp_path, f"{SQUARE}\n\n{line}\n")
    (image,) = truth.images
    assert (len(image.instances), image.not_exhaustive) == (1, unsure)
    (note,) = [each for each in truth.notes if "left out" in each]
    assert note.startswith(f"1 line that cannot be read: left out (labels/a.txt:3: {message}") or message in note
    with pytest.raises(FormatError) as caught:
        one(tmp_path, line)
    assert str(caught.value).startswith(f"{labels}:1: ")
    assert message in str(caught.value)


def test_boxes_and_polygons_in_one_file(tmp_path: Path) -> None:
    path = dataset(tmp_path, {"images/a.png": f"{SQUARE}\n{BOX}\n"}, "train: images\nnames: [cat, dog]\n")
    truth = read_yolo(path)
    square, box = truth.images[0].instances
    assert (square.box_only, box.box_only, box.box, box.area) == (False, True, (10, 5, 30, 15), 200)
    what = "1 line without a mask: counted by the box, and left out of measures of masks"
    assert truth.notes == (f"{what} (labels/a.txt:2)",)
    _, box = read_yolo(path, boxes_as_masks=True).images[0].instances
    assert (box.box_only, rle_area(box.rle)) == (False, 200)


def test_oriented_boxes_are_suspected(tmp_path: Path) -> None:
    four = "0 0.1 0.1 0.4 0.2 0.3 0.6 0.05 0.5"
    assert (
        "each of the 2 polygons has four points; if these are oriented boxes"
        in one(tmp_path / "a", f"{four}\n1{four[1:]}").notes[-1]
    )
    assert one(tmp_path / "b", f"{four}\n{SQUARE}").notes == ()


def test_images_and_label_files_that_cannot_be_read(tmp_path: Path) -> None:
    labels = {f"images/{name}.png": SQUARE for name in "abc"}
    path = dataset(tmp_path, labels, "train: images\nnames: [cat, dog]\n")
    (tmp_path / "images" / "a.png").write_bytes(b"no image")
    (tmp_path / "labels" / "b.txt").write_bytes(b"\xff\xfe0\x00")
    truth = read_yolo(path)
    assert names(truth) == ["c.png"]
    (note,) = truth.notes
    assert note.startswith("2 images that cannot be read: left out (images/a.png: ")
    assert "labels/b.txt: not text" in note
    (tmp_path / "images" / "c.png").write_bytes(b"no image")
    with pytest.raises(FormatError, match=r"a\.png: "):
        read_yolo(path)


def test_names_and_orientation(tmp_path: Path) -> None:
    """A ``path``, folders of folders, and a photo on its side."""
    root = tmp_path / "data"
    dataset(root, {"images/train/deep/b.png": None}, None)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(root / "images" / "train" / "deep" / "a.jpg", exif=exif)
    (root / "labels" / "train" / "deep").mkdir(parents=True)
    (root / "labels" / "train" / "deep" / "a.txt").write_text(BOX)
    (tmp_path / "data.yaml").write_text("path: data\ntrain: [images/train]\nnames: [a, b]\nnc: 2\n")
    a, b = read_yolo(tmp_path / "data.yaml").images
    assert (a.name, a.width, a.height) == ("deep/a.jpg", 20, 40)
    assert (a.instances[0].class_id, a.instances[0].box) == (1, (5, 10, 15, 30))
    assert (b.name, b.instances) == ("deep/b.png", ())


def test_a_box_with_a_confidence(tmp_path: Path) -> None:
    """As ``save_txt`` and ``save_conf`` of Ultralytics write predictions."""
    truth = one(tmp_path, f"{BOX} 0.87")
    ((instance,),) = [image.instances for image in truth.images]
    ((plain,),) = [image.instances for image in one(tmp_path, BOX).images]
    assert instance == plain
    assert any("confidence" in note for note in truth.notes)
