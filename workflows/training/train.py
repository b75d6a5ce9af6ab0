"""Training a student, on one page: read the dataset, train or resume, measure."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from labeler.errors import RunError
from labeler.models.students.config import TrainConfig
from labeler.models.students.loading import student_for
from labeler.models.students.student import Step, TrainedModel
from workflows.run.locks import hold
from workflows.training.data import Dataset, fingerprint_of, read_dataset
from workflows.training.measure import Measured, measure_ground_truth, measure_val
from workflows.training.state import State, check_same, new_state, read_state, write_state


@dataclass(frozen=True)
class TrainJob:
    """One training.

    Attributes:
        dataset: a folder that ``label`` or ``export`` wrote, or a version of one; see ``find_source``.
        output: the folder of the model.
        val_from: see ``read_dataset``.
        ground_truth, images, class_map: see ``measure_ground_truth``; no ground truth if None.
        restart: delete what an earlier training in ``output`` left.
    """

    dataset: Path
    output: Path
    config: TrainConfig
    val_from: str = "all"
    ground_truth: str | None = None
    images: str | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    restart: bool = False


class TrainProgress(Protocol):
    """Is told how far a training is."""

    def stage(self, doing: str) -> None: ...
    def step(self, step: Step) -> None: ...
    def measured(self, what: str, done: int, total: int) -> None: ...


@dataclass(frozen=True)
class TrainSummary:
    """What came of a training.

    Attributes:
        trained: training ran; if not, the model was trained before.
        results: by what was measured: ``val``, and ``ground truth`` if there is one.
    """

    dataset: Dataset
    model: TrainedModel
    trained: bool
    results: Mapping[str, Measured]


def train(job: TrainJob, progress: TrainProgress) -> TrainSummary:
    """Train the student, or resume its training; a trained one is only measured.

    Raises:
        UsageError, RunError, FormatError: see ``read_dataset``; or the folder holds something else.
        ModelError: the trainer is not installed, or training failed.
    """
    student = student_for(job.config)
    progress.stage("reading the dataset")
    work = job.output / "training"
    _check_output(job.output)
    begun = None if job.restart else read_state(work)
    dataset = read_dataset(job.dataset, job.val_from, begun.dataset_version if begun else None)
    work.mkdir(parents=True, exist_ok=True)
    with hold(work):
        state = new_state(dataset, job.config)
        saved = None if job.restart else read_state(work)
        if saved is None:
            _clear(work)
        else:
            check_same(job.output, saved, state)
        is_trained = saved is not None and saved.done
        if is_trained:
            model = student.load(dataset.data.class_names, job.config, job.output)
        else:
            of = f" of version {version}" if (version := dataset.source.version) else ""
            progress.stage(f"training {job.config.student} on {len(dataset.data.train)} images{of}")
            model = student.train(dataset.data, job.config, job.output, _Begun(work, state, progress))
            _check_unchanged(job, dataset)
        state = replace(state, done=True)
        write_state(work, state)
        results = _results(job, dataset, model, progress)
        write_state(work, replace(state, results={name: each.to_json() for name, each in results.items()}))
    return TrainSummary(dataset, model, not is_trained, results)


@dataclass
class _Begun:
    """Writes the state with the first step: what failed before it may be tried again with other settings."""

    work: Path
    state: State
    progress: TrainProgress
    _is_written: bool = False

    def __call__(self, step: Step) -> None:
        if not self._is_written:
            write_state(self.work, self.state)
            self._is_written = True
        self.progress.step(step)


def _results(job: TrainJob, dataset: Dataset, model: TrainedModel, progress: TrainProgress) -> dict[str, Measured]:
    progress.stage("measuring")
    results = {"val": measure_val(model, dataset, progress.measured)}
    if job.ground_truth is not None:
        results["ground truth"] = measure_ground_truth(
            model, dataset, job.ground_truth, job.images, job.class_map, progress.measured
        )
    return results


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise RunError(f"{output} is a file; choose another folder with -o")
    if output.exists() and any(output.iterdir()) and not (output / "training" / "lock").exists():
        raise RunError(f"{output} holds files that no training wrote; choose an empty or new folder with -o")


def _clear(work: Path) -> None:
    """Delete what an earlier training left, except the lock."""
    for entry in work.iterdir():
        if entry.name not in ("lock", "owner.json"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _check_unchanged(job: TrainJob, dataset: Dataset) -> None:
    """Refuse a model that may have seen two versions of a dataset.

    Raises:
        RunError: the dataset was published while the student was trained.
    """
    if fingerprint_of(dataset.source.folder) != dataset.fingerprint:
        raise RunError(
            f"{dataset.source.folder} was exported again while the student trained on it, so its images may be of two "
            f"exports; the model is in {job.output}, but was not measured; publish versions, which stay as they are "
            f"(`labeler export {dataset.source.root} --version-datasets`), and re-run with --restart"
        )
