from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import supervision as sv
from PIL import Image

from labeler.errors import FormatError
from labeler.formats.ground_truth import read_ground_truth
from labeler.formats.voc_reader import read_voc

Box = tuple[float, float, float, float]


def xml(filename: str, objects: list[tuple[str, Box, str]], width: object = 40, height: object = 30) -> str:
    return (
        f"<annotation><folder>VOC</folder><filename>{filename}</filename>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
        + "".join(
            f"<object><name>{name}</name>{more}<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for name, (x1, y1, x2, y2), more in objects
        )
        + "</annotation>"
    )


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for folder in ("Annotations/night", "JPEGImages/night"):
        (tmp_path / folder).mkdir(parents=True)
    files = {
        "a": xml("a.jpg", [("dog", (1, 1, 40, 30), ""), ("cat", (3, 5, 12, 20), "<difficult>1</difficult>")]),
        "night/b": xml(r"C:\photos\b.jpg", [("dog", (10.5, 2, 20, 9), "")]),
        "none": xml("none.jpg", []),
    }
    for name, text in files.items():
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
        Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
    return tmp_path


def test_a_folder(voc: Path) -> None:
    truth = read_ground_truth(voc)
    assert truth.class_names == ("cat", "dog")
    found = {image.name: [(each.class_id, each.box) for each in image.instances] for image in truth.images}
    assert found == {
        "a.jpg": [(1, (0, 0, 40, 30)), (0, (2, 4, 12, 20))],
        "night/b.jpg": [(1, (9.5, 1, 20, 9))],
        "none.jpg": [],
    }
    assert all(each.box_only for image in truth.images for each in image.instances)
    assert "1 object marked 'difficult': counted like any other (a.xml: object 2)" in truth.notes


def test_the_corners_are_those_of_supervision(voc: Path) -> None:
    theirs = sv.DetectionDataset.from_pascal_voc(str(voc / "JPEGImages"), str(voc / "Annotations"))
    ours = {image.name: image.instances for image in read_voc(voc).images}
    compared = 0
    for path, _, detections in theirs:
        for box, instance in zip(detections.xyxy.tolist(), ours[Path(path).name], strict=True):
            assert instance.box == tuple(box)
            compared += 1
    assert compared == 2


def test_one_file_and_boxes_as_masks(voc: Path) -> None:
    (image,) = read_ground_truth(voc / "Annotations" / "a.xml", boxes_as_masks=True).images
    assert [(each.box_only, each.area) for each in image.instances] == [(False, 1200), (False, 160)]


def test_objects_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    objects: list[Any] = [
        ("dog", (1, 1, 5, 5), ""), ("", (1, 1, 5, 5), ""), ("dog", ("x", 1, 5, 5), ""), ("dog", (9, 1, 5, 5), ""),
        ("dog", (1, 1, "nan", 5), ""), ("dog", (1, 1, 4000, 5), ""), ("dog", (45, 1, 50, 5), ""),
    ]  # fmt: skip
    (tmp_path / "a.xml").write_text(xml("a.jpg", objects))
    truth = read_voc(tmp_path)
    assert len(truth.images[0].instances) == 1
    assert any(note.startswith("6 objects that cannot be read: left out (a.xml: object 2: ") for note in truth.notes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no XML file of Pascal VOC"),
        ({"a.xml": "<annotation>"}, "a.xml: not an annotation of Pascal VOC"),
        ({"a.xml": "<html/>"}, "the root element is <'html'>, not <annotation>"),
        ({"a.xml": xml("", [])}, "<filename> is missing or empty"),
        ({"a.xml": xml("a.jpg", [], width=0)}, "width and height must be whole numbers above 0"),
        ({"a.xml": xml("a.jpg", [], width="wide")}, "not a number"),
        ({"a.xml": xml("a.jpg", []), "b.xml": xml("a.jpg", [])}, "several XML files are of the image 'a.jpg'"),
    ],
)
def test_what_is_refused(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=message) as raised:
        read_voc(tmp_path)
    assert "\n" not in str(raised.value)
