"""Parts of students that need no training: the folders for trainers, and target models of autodistill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image

from labeler.errors import ModelError
from labeler.files.images import read_image
from labeler.geometry.masks import rle_to_mask
from labeler.models.students.config import TrainConfig
from labeler.models.students.loading import student_for
from labeler.models.students.staged import stage_roboflow, stage_yolo
from labeler.models.students.student import StudentData, StudentImage
from tests.support.training_sets import CLASSES, write_training_set
from workflows.training.data import read_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> StudentData:
    folder = write_training_set(tmp_path_factory.mktemp("staged") / "dataset")
    return read_dataset(folder, "all").data


def read_back(images: list[StudentImage], dataset: sv.DetectionDataset) -> None:
    """Supervision reads the same objects and pixels; polygons may miss pixels of an outline."""
    assert dataset.classes == CLASSES
    for image, (_, pixels, found) in zip(images, sorted(dataset, key=lambda read: read[0]), strict=True):
        np.testing.assert_array_equal(pixels[..., ::-1], read_image(image.path).pixels)
        true = image.labels.instances
        assert found.class_id.tolist() == [each.class_id for each in true]
        for mask, each in zip(found.mask, true, strict=True):
            expected = rle_to_mask(each.rle)
            assert (mask & expected).sum() > 0.8 * (mask | expected).sum()


def test_yolo_and_roboflow_folders_are_read_by_supervision(data: StudentData, tmp_path: Path) -> None:
    file = stage_yolo(tmp_path / "yolo", data)
    stamp = file.stat().st_mtime_ns
    for split, images in (("train", data.train), ("val", data.val)):
        folders = (str(file.parent / kind / split) for kind in ("images", "labels"))
        read_back(list(images), sv.DetectionDataset.from_yolo(*folders, str(file), force_masks=True))
    assert stage_yolo(tmp_path / "yolo", data) == file
    assert file.stat().st_mtime_ns == stamp  # a resumed training finds the folder as it is
    folder = stage_roboflow(tmp_path / "coco", data)
    for split, images in (("train", data.train), ("valid", data.val)):
        annotations = str(folder / split / "_annotations.coco.json")
        read_back(list(images), sv.DetectionDataset.from_coco(str(folder / split), annotations, force_masks=True))


def test_trainers_get_every_image_as_it_was_labeled(data: StudentData, tmp_path: Path) -> None:
    """What a trainer does not read becomes PNG, what it would rewrite is copied, and the rest is linked."""
    pixels = read_image(data.train[0].path).pixels
    pictures = {
        "palette.gif": Image.fromarray(pixels).quantize(16),
        "deep.png": Image.fromarray(pixels[..., 0].astype(np.uint16) * 257),
        "cut.jpg": Image.fromarray(pixels),
        "plain.jpg": Image.fromarray(pixels),
    }
    paths = [tmp_path / name for name in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        picture.save(path)
    with paths[2].open("ab") as file:
        file.write(b"more")  # Ultralytics takes it for damaged and saves it again
    images = [StudentImage(path, data.train[0].labels) for path in paths]
    staged_data = StudentData(data.class_names, images, data.val)
    yolo = sorted((stage_yolo(tmp_path / "yolo", staged_data).parent / "images" / "train").iterdir())
    coco = sorted((stage_roboflow(tmp_path / "coco", staged_data) / "train").glob("0*"))
    assert [path.suffix for path in yolo] == [".png", ".png", ".jpg", ".jpg"]
    assert [path.suffix for path in coco] == [".gif", ".png", ".jpg", ".jpg"]  # RF-DETR reads GIF
    for files in (yolo, coco):
        for path, staged in zip(paths, files, strict=True):
            np.testing.assert_array_equal(np.asarray(Image.open(staged).convert("RGB")), read_image(path).pixels)
        assert [path.samefile(staged) for path, staged in zip(paths[2:], files[2:], strict=True)] == [False, True]
    named = json.loads((tmp_path / "coco" / "train" / "_annotations.coco.json").read_text())["images"]
    assert sorted(image["file_name"] for image in named) == [path.name for path in coco]


def test_a_target_model_of_autodistill(data: StudentData, tmp_path: Path) -> None:
    config = TrainConfig("tests.support.autodistill_target:BrightTarget", weights="any.pt")
    student = student_for(config)
    trained = student.train(data, config, tmp_path, lambda step: None)
    assert trained.detector == ""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[5:10, 4:9] = 255
    (found,) = trained.find(pixels)
    assert (found.class_id, found.prompt, found.score) == (len(CLASSES) - 1, CLASSES[-1], 0.75)
    assert found.box_xyxy == (4, 5, 9, 10)
    with pytest.raises(ModelError, match="cannot be loaded again; add --restart"):
        student.load(CLASSES, config, tmp_path)
