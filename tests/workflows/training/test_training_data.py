"""What is refused before a student trains, and what its measures mean."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.models.students.student import TrainedModel
from labeler.records import Instance, instance_ids
from tests.support.command_line import Run
from tests.support.frozen import FROZEN
from tests.support.training_sets import CLASSES, scenes_of, write_split, write_training_set
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.labeled import open_labeled
from workflows.training.data import read_dataset, reviewed_images
from workflows.training.measure import measure_ground_truth, measure_val

Change = Callable[[Path], object]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_training_set(tmp_path / "dataset")


def copy_into_train(dataset: Path) -> None:
    shutil.copy(dataset / "images/val/val_1.png", dataset / "images/train/train_3.png")


def empty(split: str) -> Change:
    def change(dataset: Path) -> None:
        file = dataset / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        file.write_text(json.dumps({**content, "images": [], "annotations": []}))

    return change


def without_objects(dataset: Path) -> None:
    file = dataset / "annotations" / "instances_train.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))


def unfinished(dataset: Path) -> None:
    (dataset / "run").mkdir()
    (dataset / "run" / "journal.json").touch()


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        (shutil.rmtree, (), "no such folder; label images first"),
        (lambda folder: shutil.rmtree(folder / "annotations"), (), "holds no COCO annotations"),
        (unfinished, (), "is being exported, or an export was killed"),
        (empty("train"), (), "the train split is empty; `labeler export"),
        (empty("val"), (), "the val split is empty, so a student cannot be measured"),
        (lambda folder: write_training_set(folder, train=9), (), "9 images to train on; label more, at least 10"),
        (without_objects, (), "no image of the train split has an accepted object"),
        (lambda folder: (folder / "images/val/val_0.png").unlink(), (), "1 images of val are gone (val_0.png)"),
        (copy_into_train, (), "1 images of the train split are also in val or test (train_3.png = val_1.png)"),
        (None, ("--student", "mask-rcnn"), "the students are rf-detr, yolo, rfdetr, or MODULE:CLASS"),
        (None, ("--student", "no_such_package:Model", "--weights", "x.pt"), "no_such_package cannot be imported"),
        (None, ("--student", "json:JSONDecoder", "--weights", "x.pt"), "is no DetectionTargetModel of autodistill"),
        (None, ("--weights", "no/such/folder"), "no such folder"),
        (None, ("--weights", "random", "--image-size", "100"), "need a multiple of 16, such as 96"),
        (None, ("--images", "there"), "--images is for --ground-truth; add it"),
        (None, ("--val-from", "reviewed"), "run.json"),
    ],
)
def test_refusals(
    labeler: Run, dataset: Path, tmp_path: Path, change: Change | None, flags: tuple[str, ...], message: str
) -> None:
    if change is not None:
        change(dataset)
    done = labeler("train", dataset, "-o", tmp_path / "student", *flags)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line


def test_annotations_in_parts(dataset: Path) -> None:
    """As ``--dataset-shards`` writes them."""
    whole = read_dataset(dataset, "all")
    file = dataset / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for part in range(2):
        images = [image for image in content["images"] if image["id"] % 2 == part]
        ids = {image["id"] for image in images}
        annotations = [each for each in content["annotations"] if each["image_id"] in ids]
        path = file.with_name(f"instances_train-{part:05d}-of-00002.json")
        path.write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    file.unlink()
    parts = read_dataset(dataset, "all")
    assert sorted(parts.data.train, key=lambda image: image.path) == sorted(
        whole.data.train, key=lambda image: image.path
    )
    assert parts.fingerprint != whole.fingerprint


def test_other_files_are_not_overwritten(labeler: Run, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "training").mkdir(parents=True)
    (tmp_path / "mine" / "training" / "photo.jpg").write_text("mine")
    done = labeler("train", dataset, "-o", tmp_path / "mine", "--weights", "random", "--restart")
    assert done.returncode == 2
    assert "holds files that no training wrote" in done.stderr
    assert (tmp_path / "mine" / "training" / "photo.jpg").exists()


def test_what_failed_before_the_first_step_is_tried_again_with_other_settings(
    labeler: Run, dataset: Path, tmp_path: Path
) -> None:
    flags = ("train", dataset, "-o", tmp_path / "student", "--weights")
    for weights, message in (("owner/model", "could not be downloaded"), (tmp_path, "cannot be loaded")):
        done = labeler(*flags, weights)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_trainer_that_is_not_installed(labeler: Run, dataset: Path, tmp_path: Path) -> None:
    if find_spec("rfdetr"):
        pytest.skip("it is installed")
    done = labeler("train", dataset, "-o", tmp_path / "student", "--student", "rfdetr")
    assert done.returncode == 2
    assert "pip install 'autodistill-labeler[rfdetr]'" in done.stderr


def blurred(dataset: Path) -> TrainedModel:
    """Finds every true object, with a mask that is shifted, and one that is not there."""
    truth = read_dataset(dataset, "all").data.val
    answers = {}
    for number, image in enumerate(truth):
        found = []
        for place, each in enumerate(image.labels.instances):
            rle = mask_to_rle(np.roll(rle_to_mask(each.rle), 1 + place % 3, axis=0))
            score = 0.9 - 0.1 * place - 0.01 * number
            found.append(Instance(each.class_id, "", rle_box_xyxy(rle), score, 1.0, 1.0, rle_area(rle), rle))
            found.append(replace(found[-1], class_id=0, score=score - 0.05))
        answers[np.asarray(Image.open(image.path)).tobytes()] = found
    return TrainedModel("", lambda pixels: answers[pixels.tobytes()])


def test_measures_are_those_of_pycocotools(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, read = blurred(dataset), read_dataset(dataset, "all")
    measured = measure_val(model, read, lambda *_: None)
    file = COCO(str(dataset / "annotations" / "instances_val.json"))
    results = [
        {"image_id": number, "category_id": each.class_id + 1, "segmentation": each.rle, "score": each.score}
        for number, image in enumerate(read.data.val, start=1)
        for each in model.find(np.asarray(Image.open(image.path)))
    ]
    evaluation = COCOeval(file, file.loadRes(results), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    total = measured.measures.total.mask
    np.testing.assert_allclose((total.ap, total.ap50, total.ap75), evaluation.stats[:3], atol=1e-9)
    assert 0.1 < (total.ap or 0) < 0.95
    assert measured.to_json()["metrics"]["all"]["mask"]["ap"] == total.ap


def test_ground_truth_that_was_trained_on_does_not_count(dataset: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    write_split(hidden, "val", [*scenes_of(2, 3), *scenes_of(1, 2)])  # the val split, then two training images
    truth, images = str(hidden / "annotations/instances_val.json"), str(hidden / "images/val")
    read = read_dataset(dataset, "all")
    measured = measure_ground_truth(blurred(dataset), read, truth, images, {}, lambda *_: None)
    assert (measured.images, dict(measured.left_out)) == (3, {"trained on": 2})
    expected = measure_val(blurred(dataset), read, lambda *_: None)
    assert measured.measures.total.mask.ap == expected.measures.total.mask.ap
    with pytest.raises(UsageError, match="none of its 5 images is in the folder"):
        measure_ground_truth(blurred(dataset), read, truth, str(dataset / "annotations"), {}, lambda *_: None)


def test_classes_of_the_ground_truth_may_have_other_names(dataset: Path, tmp_path: Path) -> None:
    file = dataset / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for category in content["categories"]:
        category["name"] = f"a {category['name']}"
    (tmp_path / "truth.json").write_text(json.dumps(content))
    class_map = {name: f"a {name}" for name in CLASSES}
    read, path = read_dataset(dataset, "all"), str(tmp_path / "truth.json")
    measured = measure_ground_truth(blurred(dataset), read, path, None, class_map, lambda *_: None)
    assert measured.measures.total.mask == measure_val(blurred(dataset), read, lambda *_: None).measures.total.mask


def test_reviewed_images(tmp_path: Path) -> None:
    """Those where no label is left that nobody decided on."""
    folder = tmp_path / "dataset"
    shutil.copytree(FROZEN / "dataset", folder)
    assert reviewed_images(folder) == set()
    labeled = open_labeled(folder)
    for record, judgements in labeled.judged():
        if record.image_id == "nested/deep/e.jpg":
            open_ones = [index for index, each in enumerate(judgements) if each.verdict == "review"]
            instances, ids = [record.instances[index] for index in open_ones], instance_ids(record)
    names = labeled.ontology.class_names
    decisions = [
        Decision(record_id, "reject", names[each.class_id], each.rle, instance=ids[index])
        for record_id, index, each in zip(["nested/deep/e.jpg"] * len(open_ones), open_ones, instances, strict=True)
    ]
    append_decisions(labeled.run, decisions)
    assert len(decisions) == 1
    assert reviewed_images(folder) == {"nested/deep/e.jpg"}
