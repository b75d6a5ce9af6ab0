from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml
from PIL import Image

from labeler.formats.yolo import data_yaml, label_path, write_yolo_labels
from labeler.formats.yolo_reader import read_yolo
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
    truth = read_yolo(path)
    assert list(truth.class_names) == NAMES
    assert len(truth.images) == len(records) + 1
    assert (truth.images[-1].name, truth.images[-1].instances) == ("sub/none.png", ())
    by_id = {item.name: item for item in truth.images}
    for name, before in records.items():
        after = by_id[before.image_id]
        assert (after.width, after.height) == (before.width, before.height)
        mask = rle_to_mask(before.instances[0].rle)
        (read,) = after.instances
        assert (read.class_id, read.crowd, read.box_only) == (0, False, False)
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
    (read,) = read_yolo(scratch / "own" / "data.yaml").images
    image.unlink()
    return rle_to_mask(read.instances[0].rle)


def test_supervision_reads_the_same_masks(tmp_path: Path) -> None:
    records = hard_records()
    path = write_dataset(tmp_path, train=list(records.values()))
    own = {item.name: item for item in read_yolo(path).images}
    folder = tmp_path / "images" / "train"
    dataset = sv.DetectionDataset.from_yolo(
        str(folder), str(tmp_path / "labels" / "train"), str(path), force_masks=True
    )
    assert dataset.classes == NAMES
    for image, found in dataset.annotations.items():
        item = own[Path(image).name]
        np.testing.assert_array_equal(found.mask[0], rle_to_mask(item.instances[0].rle))
