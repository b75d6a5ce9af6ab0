"""Which classes and images the ``data.yaml`` of others names, next to what Ultralytics makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from labeler.errors import FormatError
from labeler.formats.yolo_reader import read_yolo
from tests.support.yolo_files import BOX, SQUARE, dataset, names


@pytest.mark.parametrize(
    ("train", "yaml"),
    [
        ("train/images", "train: ../train/images\nval: ../valid/images"),
        ("train/images", "train: train/images\nvalidation: valid/images"),
        ("train/images", "path: .\ntrain: train/images\nval: valid/images\ntest: test/images"),
        ("train/images", "path: ''\ntrain: train/images\nval: [valid/images]"),
    ],
)
def test_the_same_splits_as_ultralytics(tmp_path: Path, train: str, yaml: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dataset(
        tmp_path / "set", {f"{train}/a.png": SQUARE, "valid/images/b.png": SQUARE}, f"{yaml}\nnames: [cat, dog]\n"
    )
    monkeypatch.chdir(path.parent)  # Ultralytics takes a relative path as relative to it
    truth = read_yolo(path)
    assert names(truth) == ["a.png", "b.png"]
    assert [len(image.instances) for image in truth.images] == [1, 1]
    utils = pytest.importorskip("ultralytics.data.utils")
    monkeypatch.setattr(utils, "check_font", lambda font: None)
    data = utils.check_det_dataset(str(path))
    assert Path(data["train"]) == path.parent / train
    assert Path(data["val"][0] if isinstance(data["val"], list) else data["val"]) == path.parent / "valid" / "images"


@pytest.mark.parametrize(
    ("yaml", "note"),
    [
        ("path: /home/else/set\ntrain: images/train\nval: images/val", "1 path that is not there"),
        ("path: ../datasets/set\ntrain: images/train\nval: images/val", "1 path that is not there"),
        ("train: /home/else/set/images/train\nval: images/val", "1 split found elsewhere than written (train: "),
        ("train: 'C:\\else\\set\\images\\train'\nval: images/val", "1 split found elsewhere than written"),
        ("train: [images/train]\nvalid: images\\val", "1 split found elsewhere"),
        ("train: images/train\nval: images/val\ntest: images/test", "1 split whose images are not there: left out (t"),
        ("train: images/train\nval: images/val\nnc: 3", "1 key that contradicts 'names': there are 2 names (nc: 3)"),
    ],
)
def test_paths_of_another_machine(tmp_path: Path, yaml: str, note: str) -> None:
    labels = {"images/train/a.png": SQUARE, "images/val/b.png": SQUARE}
    truth = read_yolo(dataset(tmp_path / "set", labels, f"{yaml}\nnames: [cat, dog]\n"))
    assert names(truth) == ["a.png", "b.png"]
    assert [line for line in truth.notes if line.startswith(note)], truth.notes


def test_a_list_of_files(tmp_path: Path) -> None:
    labels = {"images/a.png": SQUARE, "images/sub/b.png": SQUARE, "images/c.png": SQUARE, "images/d.png": None}
    yaml = "path: set\ntrain: train.txt\nval: val.txt\nnames: [cat, dog]\n"
    dataset(tmp_path / "set", labels)
    (tmp_path / "data.yaml").write_text(yaml)
    lines = ["images/a.png", "./images/sub/b.png", "data\\images\\c.png", "", "/home/else/set/images/none.png"]
    (tmp_path / "set" / "train.txt").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    (tmp_path / "set" / "val.txt").write_text(f"{tmp_path}/set/images/d.png\n")
    truth = read_yolo(tmp_path / "data.yaml")
    assert names(truth) == ["images/a.png", "images/sub/b.png", "images/c.png", "images/d.png"]
    assert truth.notes == (
        "1 image in train.txt that is not there: left out (/home/else/set/images/none.png)",
        "1 image without a label file: taken as without objects (images/d.png)",
    )


@pytest.mark.parametrize(
    ("yaml", "class_names"),
    [
        ("names: [cat, dog]", ("cat", "dog")),
        ("names: {0: cat, 1: dog}", ("cat", "dog")),
        ('names: {"1": dog, "0": cat}', ("cat", "dog")),
        ("nc: 2", ("class_0", "class_1")),
        ("nc: '2'\nnames:", ("class_0", "class_1")),
    ],
)
def test_class_names(tmp_path: Path, yaml: str, class_names: tuple[str, ...]) -> None:
    path = dataset(tmp_path, {"images/a.png": BOX}, f"train: images\nval: images\n{yaml}\n")
    assert read_yolo(path).class_names == class_names
    utils = pytest.importorskip("ultralytics.data.utils")
    data = utils.YAML.load(path)
    data_names = data.get("names") or [f"class_{each}" for each in range(int(data["nc"]))]
    assert utils.check_class_names(data_names) == dict(enumerate(class_names))


def test_images_of_one_name_in_two_splits(tmp_path: Path) -> None:
    labels = {
        "train/images/a.png": SQUARE, "val/images/a.png": BOX,
        "train/images/same.png": SQUARE, "val/images/same.png": SQUARE,
    }  # fmt: skip
    truth = read_yolo(dataset(tmp_path, labels, "train: train/images\nval: val/images\nnames: [cat, dog]\n"))
    assert names(truth) == ["train/images/a.png", "val/images/a.png", "same.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not a data.yaml"),
        ("train: images", "'names' must be"),
        ("just text", "'names' must be"),
        ("train: images\nnames: {1: a}", "'names' must be"),
        ("train: images\nnames: [[a], b]", "'names' must be"),
        ("train: images\nnames: a", "'names' must be"),
        ("train: images\nnc: 99999999999", "'names' must be"),
        ("train: images/none\nnames: [a]", "there is no folder"),
        ("names: [a]", "it names no images; add train, val or test"),
        ("train: 5\nnames: [a]", "'train' must name folders, not 5"),
        ("path: [a]\ntrain: images\nnames: [a]", "'path' must name a folder, not ['a']"),
        ("train: images\nnames: [a]\nkpt_shape: 17", "'kpt_shape' is 17"),
        ("train: labels\nnames: [a]", "there are no images in the folders that it names"),
        ("train: bare/images\nnames: [a]", "no image has a label file; expected "),
    ],
)
def test_broken_data_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = dataset(tmp_path, {"images/a.png": BOX, "bare/images/b.png": None}, text)
    with pytest.raises(FormatError) as caught:
        read_yolo(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"not a data\.yaml"):
        read_yolo(tmp_path / "none.yaml")
