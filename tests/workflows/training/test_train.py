"""Training students: the default and Ultralytics, from random weights; resuming; the model as a detector again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labeler.errors import RunError
from labeler.files.images import read_image
from labeler.geometry.masks import rle_to_mask
from labeler.models.config import ModelConfig
from labeler.models.loading import load_detector
from labeler.models.students.config import TrainConfig
from labeler.models.students.loading import student_for
from labeler.models.students.student import Step, StudentData
from tests.support.command_line import Run
from tests.support.training_sets import CLASSES, write_training_set
from workflows.training.data import read_dataset
from workflows.training.train import TrainJob, train

TINY = ("--weights", "random", "--image-size", 32, "--batch-size", 6, "--device", "cpu")
CONFIG = TrainConfig(weights="random", image_size=32, batch_size=6, device="cpu", epochs=2)


class Silent:
    """Progress that says nothing; ``steps`` has what it was told."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def stage(self, doing: str) -> None: ...

    def step(self, step: Step) -> None:
        self.steps.append(step)

    def measured(self, what: str, done: int, total: int) -> None: ...


class Stopping(Silent):
    """Ctrl-C in the second epoch."""

    def step(self, step: Step) -> None:
        super().step(step)
        if step.epoch > 1:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_set(tmp_path_factory.mktemp("training") / "dataset")


@pytest.fixture(scope="module")
def student(dataset: Path) -> tuple[Path, Silent]:
    """A student after two epochs without a stop, and what its progress was told."""
    progress = Silent()
    output = dataset.with_name("student")
    train(TrainJob(dataset, output, CONFIG), progress)
    return output, progress


def test_a_stopped_training_resumes_to_the_same_weights(dataset: Path, student: tuple[Path, Silent]) -> None:
    whole, progress = student
    output = dataset.with_name("stopped")
    with pytest.raises(KeyboardInterrupt):
        train(TrainJob(dataset, output, CONFIG), Stopping())
    assert not (output / "model.safetensors").exists()
    # A checkpoint that was being written when the process died is passed over.
    (output / "training" / "checkpoints" / "checkpoint-999").mkdir()
    resumed = Silent()
    assert train(TrainJob(dataset, output, CONFIG), resumed).trained
    assert [step.epoch for step in progress.steps] == [0.5, 1.0, 1.5, 2.0]
    assert [step.epoch for step in resumed.steps] == [1.5, 2.0]
    assert (output / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_trained_student_is_measured_again_and_not_trained(
    labeler: Run, dataset: Path, student: tuple[Path, Silent]
) -> None:
    output, _ = student
    before = (output / "model.safetensors").stat().st_mtime_ns
    truth = dataset / "annotations" / "instances_val.json"
    done = labeler("train", dataset, "-o", output, *TINY, "--epochs", 2, "--ground-truth", truth)
    assert done.returncode == 0, done.stderr
    assert "trained before, measured again" in done.stdout
    assert f"--detector {output}" in done.stdout
    assert (output / "model.safetensors").stat().st_mtime_ns == before
    results = json.loads((output / "training" / "training.json").read_text())["results"]
    assert results["val"]["metrics"] == results["ground truth"]["metrics"]
    assert results["val"]["images"] == 3


def test_other_settings_do_not_resume(labeler: Run, dataset: Path, student: tuple[Path, Silent]) -> None:
    output, _ = student
    done = labeler("train", dataset, "-o", output, *TINY, "--epochs", 7)
    assert done.returncode == 2
    assert "began with --epochs 2, not 7; add --restart" in done.stderr


def test_the_student_is_a_detector(labeler: Run, dataset: Path, student: tuple[Path, Silent]) -> None:
    """Boxes and scores of ``--detector`` are those of transformers for the model that was saved."""
    from transformers import RfDetrForInstanceSegmentation, RfDetrImageProcessor

    output, _ = student
    image = read_image(dataset / "images" / "val" / "val_0.png").pixels
    detector = load_detector(ModelConfig(str(output), "", device="cpu", floor=0.001))
    (found,) = detector.detect([image], [tuple(CLASSES)])
    model = RfDetrForInstanceSegmentation.from_pretrained(output).eval()
    processor = RfDetrImageProcessor.from_pretrained(output)
    with torch.inference_mode():
        inputs = processor(images=image, input_data_format="channels_last", return_tensors="pt")
        (expected,) = processor.post_process_object_detection(
            model(**inputs), threshold=0.001, target_sizes=[image.shape[:2]]
        )
    assert len(found.boxes_xyxy)
    np.testing.assert_allclose(
        sorted(found.scores[found.scores > 0], reverse=True), expected["scores"].numpy(), rtol=1e-5
    )
    images = dataset / "images" / "val"
    flags = ("--detector", output, "--segmenter", "embedded:segmenter", "--device", "cpu", "--floor", 0.001)
    done = labeler("label", images, "-o", dataset.with_name("labeled"), "--classes", ", ".join(CLASSES), *flags)
    assert done.returncode == 0, done.stderr
    assert "in 3 images" in done.stdout


def test_masks_and_scores_are_those_of_the_model(dataset: Path, student: tuple[Path, Silent], tmp_path: Path) -> None:
    from transformers import RfDetrForInstanceSegmentation, RfDetrImageProcessor

    image = np.repeat(read_image(dataset / "images" / "val" / "val_1.png").pixels, 2, axis=1)  # not square
    model = RfDetrForInstanceSegmentation.from_pretrained(student[0]).eval()
    processor = RfDetrImageProcessor.from_pretrained(student[0])
    inputs = processor(images=image, input_data_format="channels_last", return_tensors="pt")
    with torch.inference_mode():
        scores = model(**inputs).logits[0].sigmoid()
        query, class_id = divmod(int(scores.argmax()), len(CLASSES))
        # After a few steps all masks are empty; with this, half of the best one is not.
        model.segmentation_bias -= model(**inputs).pred_masks[0, query].median()
        masks = model(**inputs).pred_masks[:, query : query + 1]
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    best = student_for(CONFIG).load(CLASSES, CONFIG, tmp_path).find(image)[0]
    assert best.class_id == class_id
    assert best.score == pytest.approx(scores.max().item(), abs=1e-6)
    logits = torch.nn.functional.interpolate(masks, size=image.shape[:2], mode="bilinear", align_corners=False)
    np.testing.assert_array_equal(rle_to_mask(best.rle), logits[0, 0].numpy() > 0)


def test_a_batch_without_objects_and_published_weights(
    dataset: Path, student: tuple[Path, Silent], tmp_path: Path
) -> None:
    """Weights of other classes are taken, apart from the layers that score classes."""
    from safetensors.torch import load_file

    output, _ = student
    data = read_dataset(dataset, "all").data
    empty = [replace(image, labels=replace(image.labels, instances=())) for image in data.train[:2]]
    config = replace(CONFIG, weights=str(output), image_size=None, learning_rate=1e-12, epochs=1)
    progress = Silent()
    tuned = student_for(config).train(StudentData(("one", "two"), empty, empty), config, tmp_path, progress.step)
    assert [step.epoch for step in progress.steps] == [1.0]
    assert np.isfinite(progress.steps[0].loss or np.nan)
    old, new = load_file(output / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    other = {name for name in old if old[name].shape != new[name].shape}
    assert other
    assert all("class_embed" in name for name in other)
    assert all(torch.allclose(old[name], new[name], atol=1e-6) for name in old.keys() - other)
    assert {each.class_id for each in tuned.find(np.zeros((32, 48, 3), np.uint8))} <= {0, 1}


def test_a_dataset_that_is_exported_while_a_student_trains_on_it(tmp_path: Path) -> None:
    dataset = write_training_set(tmp_path / "dataset")
    annotations = dataset / "annotations" / "instances_train.json"

    class Exporting(Silent):
        def step(self, step: Step) -> None:
            content: Any = json.loads(annotations.read_text())
            content["annotations"].pop()
            annotations.write_text(json.dumps(content))

    job = TrainJob(dataset, tmp_path / "student", replace(CONFIG, epochs=1, batch_size=12))
    with pytest.raises(RunError, match="was exported again while the student trained"):
        train(job, Exporting())
    with pytest.raises(RunError, match="was exported again since the training"):
        train(job, Silent())


def test_ultralytics(labeler: Run, dataset: Path, tmp_path: Path) -> None:
    """Stopped after the first of two epochs, resumed by the command, and used as a detector."""
    pytest.importorskip("ultralytics")
    before = sorted(path.relative_to(dataset) for path in dataset.rglob("*"))
    output = tmp_path / "student"
    weights = output / "training" / "run" / "weights"

    class StoppingAtOnce(Silent):
        def step(self, step: Step) -> None:
            super().step(step)
            raise KeyboardInterrupt

    stopped = StoppingAtOnce()
    with pytest.raises(KeyboardInterrupt):
        train(TrainJob(dataset, output, replace(CONFIG, student="yolo")), stopped)
    assert [step.epoch for step in stopped.steps] == [1]
    for name in ("last.pt", "best.pt"):  # as if killed while Ultralytics overwrote them
        (weights / name).write_bytes((weights / name).read_bytes()[:1000])
    done = labeler("train", dataset, "-o", output, "--student", "yolo", *TINY, "--epochs", 2)
    assert done.returncode == 0, done.stderr
    assert "AGPL-3.0" in done.stdout
    assert "epoch 2.0 of 2" in done.stdout
    assert f"--detector {output / 'model.pt'}" in done.stdout
    assert (output / "training" / "run" / "results.csv").read_text().count("\n") == 3  # a header, and each epoch once
    assert sorted(path.relative_to(dataset) for path in dataset.rglob("*")) == before
    state = output / "training" / "training.json"
    for epoch in (-1, 1):  # killed just before the end, and after the last epoch: Ultralytics would not resume
        state.write_text(state.read_text().replace('"done": true', '"done": false'))
        for name in ("last.pt", "last.pt.kept"):
            content = torch.load(weights / name, weights_only=False)
            torch.save({**content, "epoch": epoch}, weights / name)
        done = labeler("train", dataset, "-o", output, "--student", "yolo", *TINY, "--epochs", 2)
        assert "trained now" in done.stdout, done.stderr
        assert "epoch" not in done.stdout
    detector = load_detector(ModelConfig(str(output / "model.pt"), "", device="cpu"))
    assert detector.forward_passes(("circle", "star")) == 1


def test_weights_that_ultralytics_cannot_start_from(labeler: Run, dataset: Path, tmp_path: Path) -> None:
    ultralytics = pytest.importorskip("ultralytics")
    ultralytics.YOLO("yolo11n.yaml").save(tmp_path / "boxes.pt")
    (tmp_path / "damaged.pt").write_bytes(b"weights")
    for weights, message in (
        (tmp_path / "none.pt", "none.pt: no such file; give a .pt file with masks"),
        (tmp_path / "damaged.pt", "weights 'damaged.pt' cannot be loaded by ultralytics"),
        (tmp_path / "boxes.pt", "weights 'boxes.pt' are for the task 'detect'; give a .pt file with masks"),
    ):
        done = labeler("train", dataset, "-o", tmp_path / "student", "--student", "yolo", "--weights", weights)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert message in line
