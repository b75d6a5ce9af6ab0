"""A training reads one version of its dataset, from its first step to its last."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from labeler.decisions import Decision
from labeler.errors import RunError, UsageError
from labeler.models.students.config import TrainConfig
from labeler.models.students.student import Step
from tests.support.command_line import run_in_process
from tests.support.made_folder import write_labeled
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.labeled import open_labeled
from workflows.dataset.versions import latest_version
from workflows.run.folder import RunFolder
from workflows.training.data import annotation_files, read_dataset
from workflows.training.train import TrainJob, train

CONFIG = TrainConfig(weights="random", image_size=32, batch_size=12, device="cpu", epochs=2)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("versions")
    out = write_labeled(folder, [f"{number}.png" for number in range(21)], ["dog", "cat"], side=64)
    publish(out, "0.3")
    return out


@pytest.fixture
def dataset(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "dataset", symlinks=True))


def publish(out: Path, accept_score: str) -> str:
    assert run_in_process("export", out, "--version-datasets", "--accept-score", accept_score).returncode in (0, 1)
    return latest_version(out)


def test_latest_is_looked_up_once(dataset: Path, tmp_path: Path) -> None:
    first = latest_version(dataset)
    (tmp_path / "current").symlink_to(dataset / "versions" / first)
    read = read_dataset(dataset, "all")
    second = publish(dataset, "0.5")
    assert second != first
    assert read.source.version == first
    assert all(str(dataset / "versions" / first) in str(image.path) for image in read.data.train)
    for path, begun, expected in (
        (dataset, None, second),
        (dataset / "versions" / "latest", None, second),
        (dataset / "versions" / first, None, first),
        (tmp_path / "current", None, first),
        (dataset, first, first),
        (dataset / "versions" / "latest", first, first),
        (dataset / "versions" / second, first, second),
        (dataset, "", ""),
    ):
        source = read_dataset(path, "all", begun).source
        assert (source.root, source.version) == (dataset, expected)
    moved = Path(shutil.copytree(dataset / "versions" / first, tmp_path / "moved"))
    assert read_dataset(moved, "all").fingerprint == read_dataset(dataset / "versions" / first, "all").fingerprint
    with pytest.raises(RunError, match="no such folder"):
        read_dataset(tmp_path / "versions" / "latest", "all")
    assert run_in_process("export", dataset, "--no-version-datasets").returncode == 0
    assert read_dataset(dataset, "all").source.version == ""


def test_a_version_is_read_while_the_dataset_is_published(dataset: Path) -> None:
    (dataset / "run" / "journal.json").touch()
    assert read_dataset(dataset, "all").source.version == latest_version(dataset)
    with pytest.raises(RunError, match="is being exported"):
        read_dataset(dataset, "all", begun="")


def test_reviewed_images_of_a_version_have_the_labels_of_now(dataset: Path) -> None:
    with pytest.raises(UsageError, match=f"`labeler review {dataset}`"):
        read_dataset(dataset, "reviewed")
    labeled = open_labeled(dataset)
    in_val = {image["file_name"] for image in json.loads(annotation_files(dataset, "val")[0].read_bytes())["images"]}
    shown = ((record, judged) for record, judged in labeled.judged() if record.image_id in in_val and judged)
    record, judgements = next(shown)
    decisions = [
        Decision(record.image_id, "reject", labeled.ontology.class_names[instance.class_id], instance.rle)
        for instance, judged in zip(record.instances, judgements, strict=True)
        if judged.verdict != "reject"
    ]
    append_decisions(RunFolder(dataset), decisions)
    before = latest_version(dataset)
    publish(dataset, "0.3")
    assert [image.labels.name for image in read_dataset(dataset, "reviewed").measured] == [record.image_id]
    with pytest.raises(UsageError, match="no image of the val split is reviewed in full"):
        read_dataset(dataset / "versions" / before, "reviewed")


class Silent:
    def stage(self, doing: str) -> None:
        self.doing = doing

    def step(self, step: Step) -> None: ...

    def measured(self, what: str, done: int, total: int) -> None: ...


def test_a_training_keeps_its_version(dataset: Path, tmp_path: Path) -> None:
    """It is stopped in its second epoch and resumed, and a newer version is published at every step."""
    first = latest_version(dataset)
    job = TrainJob(dataset, tmp_path / "student", CONFIG)

    class Publishing(Silent):
        def step(self, step: Step) -> None:
            publish(dataset, f"{0.4 + step.epoch / 10}")

    class Stopping(Publishing):
        def step(self, step: Step) -> None:
            super().step(step)
            if step.epoch > 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, Stopping())
    assert latest_version(dataset) != first
    summary = train(job, Publishing())
    assert summary.trained
    assert summary.dataset.source.version == first
    assert json.loads((tmp_path / "student" / "training" / "training.json").read_text())["dataset_version"] == first
    with pytest.raises(RunError, match=f"is trained on version {first} of {dataset}, not on version"):
        train(replace(job, dataset=dataset / "versions" / "latest" / ".." / latest_version(dataset)), Silent())
    flags = ("--weights", "random", "--image-size", 32, "--batch-size", 12, "--device", "cpu", "--epochs", 2)
    done = run_in_process("train", dataset, "-o", tmp_path / "student", *flags)
    assert f"images of the train split of version {first}," in done.stdout
    shutil.rmtree(dataset / "versions" / first)
    with pytest.raises(RunError, match=f"is trained on version {first} of .* add --restart to train anew"):
        train(job, Silent())
