from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml
from PIL import Image

from labeler.errors import FormatError
from labeler.formats.yolo import data_yaml, label_path, read_yolo, write_yolo_labels
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.records import ImageRecord, Instance
from tests.support.hard_masks import HARD_MASKS, SCATTERED, iou, random_masks

NAMES = ["cat", "yes", "on: # 1.0", "großer Hund", "  null "]


def record(image_id: str, *masks: np.ndarray, size: tuple[int, int] = (8, 6)) -> ImageRecord:
    height, width = masks[0].shape if masks else size
    instances = []
    for position, mask in enumerate(masks):
        rle = mask_to_rle(mask)
        box = rle_box_xyxy(rle)
        instances.append(Instance(position % len(NAMES), "prompt", box, 0.5, 0.9, 0.8, rle_area(rle), rle))
    return ImageRecord(image_id, width, height, "digest", instances=tuple(instances))


def write_dataset(root: Path, **splits: list[ImageRecord]) -> Path:
    for split, records in splits.items():
        for item in records:
            image = root / "images" / split / item.image_id
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (item.width, item.height)).save(image)
            write_yolo_labels(label_path(image), item)
    (root / "data.yaml").write_text(data_yaml(NAMES, {split: split for split in splits}))
    return root / "data.yaml"


def hard_records() -> dict[str, ImageRecord]:
    masks = {**HARD_MASKS, **{f"random {place}": mask for place, mask in enumerate(random_masks(60))}}
    return {name: record(f"{name}.png", mask) for name, mask in masks.items()}


def demands(name: str, mask: np.ndarray) -> float:
    """The lowest IoU allowed: 1 for one part; bridges between parts add pixels, in a large mask less than 1 %."""
    if cv2.connectedComponents(mask.view(np.uint8), connectivity=8)[0] == 2:
        return 1.0
    return 0.99 if mask.sum() > 32 * 32 and name in HARD_MASKS and name not in SCATTERED else 0.3


def test_round_trip(tmp_path: Path) -> None:
    records = hard_records()
    path = write_dataset(tmp_path, train=list(records.values()), val=[record("sub/none.png")])
    names, back = read_yolo(path)
    assert names == NAMES
    assert len(back) == len(records) + 1
    assert (back[-1].image_id, back[-1].instances) == ("sub/none.png", ())
    by_id = {item.image_id: item for item in back}
    for name, before in records.items():
        after = by_id[before.image_id]
        assert (after.width, after.height) == (before.width, before.height)
        mask = rle_to_mask(before.instances[0].rle)
        (read,) = after.instances
        assert (read.class_id, read.prompt, read.score) == (0, "cat", 1.0)
        assert read.area == rle_area(read.rle)
        assert iou(mask, rle_to_mask(read.rle)) >= demands(name, mask), name


def test_image_width_does_not_matter(tmp_path: Path) -> None:
    """With six decimals, both truncating and rounding in float32 restore every pixel index."""
    for width, height in ((7, 3), (641, 479), (1920, 1080), (8191, 5), (3, 30_001)):
        pixels = np.arange(max(width, height))
        for size in (width, height):
            written = np.array([float(f"{value:.6f}") for value in (pixels[:size] + 0.45) / size])
            np.testing.assert_array_equal((written * size).astype(np.int32), pixels[:size])
            single = written.astype(np.float32) * np.float32(size)
            np.testing.assert_array_equal(single.astype(np.int32), pixels[:size])
            np.testing.assert_array_equal(np.round(single).astype(np.int32), pixels[:size])


def test_what_is_written(tmp_path: Path) -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:5, 4:9] = True
    path = tmp_path / "labels" / "train" / "a.txt"
    write_yolo_labels(path, record("a.png", np.zeros_like(mask), mask))
    assert path.read_bytes() == (b"1 0.222500 0.245000 0.222500 0.445000 0.422500 0.445000 0.422500 0.245000\n")
    write_yolo_labels(path, record("a.png"))
    assert path.read_bytes() == b""
    (tmp_path / "data.yaml").write_text(data_yaml(NAMES))
    assert yaml.safe_load((tmp_path / "data.yaml").read_text("utf-8")) == {
        "train": "images/train",
        "val": "images/val",
        "names": dict(enumerate(NAMES)),
    }


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/train/a/b.jpg", "/d/labels/train/a/b.txt"),
        ("images/val/a.b.png", "labels/val/a.b.txt"),
        ("/images/d/images/train/images.jpg", "/images/d/labels/train/images.txt"),
        ("/d/images/train/images/a.jpg", "/d/images/train/labels/a.txt"),
        ("/d/pictures/a.jpg", "/d/pictures/a.txt"),
    ],
)
def test_label_path_is_the_one_of_ultralytics(image: str, label: str) -> None:
    assert label_path(Path(image)) == Path(label)
    utils = pytest.importorskip("ultralytics.data.utils")
    if image.startswith("/"):
        assert utils.img2label_paths([image]) == [label]


def test_ultralytics_reads_the_same_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("ultralytics.data.utils")
    monkeypatch.setattr(utils, "check_font", lambda font: None)
    records = hard_records()
    first = write_dataset(tmp_path / "first", train=list(records.values()), val=[record("none.png", size=(40, 40))])
    moved = first.parent.rename(tmp_path / "moved")
    data = utils.check_det_dataset(str(moved / "data.yaml"))
    assert data["names"] == dict(enumerate(NAMES))
    assert Path(data["train"]) == moved / "images" / "train"
    assert Path(data["val"]) == moved / "images" / "val"
    for name, before in records.items():
        mask = rle_to_mask(before.instances[0].rle)
        image = Path(data["train"]) / before.image_id
        if min(mask.shape) < 10:  # Ultralytics takes no smaller image
            Image.new("RGB", (before.width, before.height)).resize((10, 10)).save(image)
        (label,) = utils.img2label_paths([str(image)])
        found = utils.verify_image_label((str(image), label, "", False, len(NAMES), 0, 0, False))
        assert found[8] == 0, found[9]  # corrupt
        (segment,) = found[3]
        (read,) = utils.polygons2masks(mask.shape, [segment * np.float32([before.width, before.height])], color=1)
        assert iou(mask, read.astype(bool)) >= demands(name, mask), name
        np.testing.assert_array_equal(read.astype(bool), through_own_reader(moved, before, tmp_path))


def through_own_reader(root: Path, before: ImageRecord, scratch: Path) -> np.ndarray:
    image = scratch / "own" / "images" / "train" / before.image_id
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (before.width, before.height)).save(image)
    source = root / "labels" / "train" / before.image_id
    label_path(image).parent.mkdir(parents=True, exist_ok=True)
    label_path(image).write_text(source.with_suffix(".txt").read_text())
    (scratch / "own" / "data.yaml").write_text(data_yaml(NAMES, {"train": "train"}))
    _, (read,) = read_yolo(scratch / "own" / "data.yaml")
    image.unlink()
    return rle_to_mask(read.instances[0].rle)


def test_supervision_reads_the_same_masks(tmp_path: Path) -> None:
    records = hard_records()
    path = write_dataset(tmp_path, train=list(records.values()))
    own = {item.image_id: item for item in read_yolo(path)[1]}
    folder = tmp_path / "images" / "train"
    dataset = sv.DetectionDataset.from_yolo(
        str(folder), str(tmp_path / "labels" / "train"), str(path), force_masks=True
    )
    assert dataset.classes == NAMES
    for image, found in dataset.annotations.items():
        item = own[Path(image).name]
        np.testing.assert_array_equal(found.mask[0], rle_to_mask(item.instances[0].rle))


def test_reads_what_others_write(tmp_path: Path) -> None:
    """Boxes, a list of names, a ``path``, folders of folders, images without labels, EXIF orientation, a BOM."""
    root = tmp_path / "here" / "data"
    folder = root / "images" / "train" / "deep"
    folder.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "a.jpg", exif=exif)
    Image.new("RGB", (40, 20)).save(folder / "b.png")
    labels = root / "labels" / "train" / "deep"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text("\ufeff1 0.5 0.5 0.5 0.5\n\n0 0.0 0.0 1 0 1.0 1.0 0 1\n1 1 1 0 0\n", encoding="utf-8")
    (tmp_path / "here" / "data.yaml").write_text("path: data\ntrain: [images/train]\nnames: [a, b]\nnc: 2\n")
    names, (a, b) = read_yolo(tmp_path / "here" / "data.yaml")
    assert names == ["a", "b"]
    assert (a.image_id, a.width, a.height) == ("deep/a.jpg", 20, 40)
    box, whole, point = a.instances
    assert (box.class_id, box.box_xyxy, box.area) == (1, (5, 10, 15, 30), 200)
    assert (whole.class_id, whole.area) == (0, 800)
    assert (point.area, point.box_xyxy) == (1, (19, 39, 20, 40))
    assert (b.image_id, b.instances) == ("deep/b.png", ())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0.5 0.5 0.1 0.1", "class 3, but data.yaml names 2 classes"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("0 0.5 0.5 0.1", "3 coordinates; expected 4"),
        ("0 0.5 0.5 0.1 0.1 0.2 0.2 0.3", "7 coordinates"),
        ("0 0.5 0.5", "2 coordinates"),
        ("0", "0 coordinates"),
        ("cat 0.5 0.5 0.1 0.1", "could not convert string to float"),
        ("0 0.5 0.5 0.1 1.1", "outside [0, 1]"),
        ("0 0.5 0.5 0.1 -0.1", "outside [0, 1]"),
        ("0 0.5 0.5 0.1 nan", "outside [0, 1]"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write_dataset(tmp_path, train=[record("a.png")])
    labels = tmp_path / "labels" / "train" / "a.txt"
    labels.write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    path.write_text("train: images/train\nnames: {0: a, 1: b}\n")
    with pytest.raises(FormatError) as caught:
        read_yolo(path)
    assert str(caught.value).startswith(f"{labels}:3: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not a data.yaml"),
        ("train: images/train", "'names' must be"),
        ("just text", "'names' must be"),
        ("train: images/train\nnames: {1: a}", "'names' must be"),
        ("train: images/none\nnames: [a]", "there is no folder"),
    ],
)
def test_broken_data_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = write_dataset(tmp_path, train=[record("a.png")])
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_yolo(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"not a data\.yaml"):
        read_yolo(tmp_path / "none.yaml")
    path = write_dataset(tmp_path, train=[record("a.png")])
    (tmp_path / "labels" / "train" / "a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(FormatError, match=r"a\.txt: not a text file"):
        read_yolo(path)
    (tmp_path / "images" / "train" / "a.png").write_bytes(b"no image")
    with pytest.raises(FormatError, match=r"a\.png: "):
        read_yolo(path)
