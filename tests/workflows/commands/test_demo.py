"""``labeler demo`` as a user runs it, and its dataset in the tools that will read it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.datasets import CocoDetection

from tests.support.command_line import Run


def test_metrics_are_those_of_pycocotools_on_the_written_dataset(demo: tuple[Path, str]) -> None:
    """Independent of the demo's own evaluation: accepted labels read back from the COCO files."""
    folder, said = demo
    stated = re.search(r"AP50 (\d\.\d+), AP75 (\d\.\d+), AP (\d\.\d+)", said)
    assert stated is not None
    truth = COCO(folder / "truth.json")
    image_ids = {image["file_name"]: image["id"] for image in truth.loadImgs(truth.getImgIds())}
    found = []
    for split in ("train", "val"):
        content = json.loads((folder / "dataset" / "annotations" / f"instances_{split}.json").read_text())
        names = {image["id"]: image["file_name"] for image in content["images"]}
        found += [{**a, "image_id": image_ids[names[a["image_id"]]]} for a in content["annotations"]]
    evaluation = COCOeval(truth, truth.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    ap50 = evaluation.stats[1]
    # Accepted labels lack the low-scored tail that the stated AP has, so they can only fall short of it.
    assert ap50 <= float(stated[1]) + 1e-6
    assert ap50 > 0.75
    assert float(stated[3]) > 0.7


def test_what_the_demo_leaves(demo: tuple[Path, str]) -> None:
    folder, said = demo
    assert {path.name for path in folder.iterdir()} == {"scenes", "truth.json", "dataset", "preview.png"}
    first = np.asarray(Image.open(folder / "scenes" / "scene_0000.png"))
    assert first.shape == (320, 320, 3)
    assert "precision" in said
    sheet = np.asarray(Image.open(folder / "preview.png"))
    assert sheet.shape == (2 * 510 + 40, 4 * 480, 3)
    assert sheet[:480, :480].std() > 10
    assert (folder / "dataset" / "report.html").stat().st_size > 1_000_000


def test_supervision_reads_both_formats_alike(demo: tuple[Path, str]) -> None:
    folder = demo[0] / "dataset"
    coco = sv.DetectionDataset.from_coco(
        str(folder / "images" / "train"), str(folder / "annotations" / "instances_train.json"), force_masks=True
    )
    yolo = sv.DetectionDataset.from_yolo(
        str(folder / "images" / "train"), str(folder / "labels" / "train"), str(folder / "data.yaml"), force_masks=True
    )
    assert coco.classes == yolo.classes
    assert len(coco) == len(yolo) > 20
    overlaps = []
    for path, expected in coco.annotations.items():
        found = yolo.annotations[path]
        assert list(found.class_id) == list(expected.class_id)
        for a, b in zip(found.mask, expected.mask, strict=True) if len(expected) else ():  # None without objects
            overlaps.append((a & b).sum() / (a | b).sum())
    assert np.mean(overlaps) > 0.98


def test_torchvision_reads_coco(demo: tuple[Path, str]) -> None:
    folder = demo[0] / "dataset"
    dataset = CocoDetection(str(folder / "images" / "val"), str(folder / "annotations" / "instances_val.json"))
    assert len(dataset) > 0
    for image, objects in dataset:
        for annotation in objects:
            mask = dataset.coco.annToMask(annotation)
            assert mask.shape == (image.height, image.width)
            assert mask.sum() == annotation["area"]


@pytest.mark.slow
def test_ultralytics_trains_an_epoch(demo: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dataset goes into a segmentation training as it is: every image and label is taken."""
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from ultralytics import YOLO

    folder = demo[0] / "dataset"
    model = YOLO("yolo11n-seg.yaml")  # from nothing: there are no weights to fetch
    results = model.train(
        data=str(folder / "data.yaml"), epochs=1, imgsz=160, batch=8, workers=0, device="cpu", plots=False,
        project=str(tmp_path), name="run", verbose=False, amp=False,
    )  # fmt: skip
    assert results is not None
    labels = model.trainer.train_loader.dataset.labels
    written = sorted((folder / "labels" / "train").glob("*.txt"))
    assert len(labels) == len(written)
    objects = sum(len(path.read_text().splitlines()) for path in written)
    assert sum(len(label["cls"]) for label in labels) == objects > 50
    assert (tmp_path / "run" / "weights" / "last.pt").exists()


def test_demo_again_replaces_its_own(demo: tuple[Path, str], labeler: Run, tmp_path: Path) -> None:
    for _ in range(2):
        done = labeler("demo", "-o", tmp_path / "again", "--scenes", 3)
        assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "again" / "scenes").iterdir())) == 3
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "again" / "scenes" / "scene_0000.png")),
        np.asarray(Image.open(demo[0] / "scenes" / "scene_0000.png")),
    )


def test_without_a_class_named(labeler: Run, tmp_path: Path) -> None:
    done = labeler("demo", "--auto", "-o", tmp_path / "auto", "--scenes", 12)
    assert done.returncode == 0, done.stderr
    stated = re.search(r"AP50 (\d\.\d+)", done.stdout)
    assert stated is not None
    assert float(stated[1]) > 0.8
    truth = COCO(tmp_path / "auto" / "truth.json")
    names = {truth.cats[annotation["category_id"]]["name"] for annotation in truth.anns.values()}
    content = json.loads((tmp_path / "auto" / "dataset" / "annotations" / "instances_train.json").read_text())
    found = {category["name"] for category in content["categories"]}
    assert names <= found  # nobody has named them
