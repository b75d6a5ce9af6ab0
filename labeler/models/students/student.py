"""The interface of students: a dataset and settings in, a trained model out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from labeler.ground_truth import GroundTruthImage
from labeler.models.detectors.detector import Image
from labeler.models.students.config import TrainConfig
from labeler.records import Instance


@dataclass(frozen=True)
class StudentImage:
    """An image to learn from, and its labels.

    Attributes:
        path: the file, decoded by ``labeler.files.images.read_image``.
        labels: its objects; masks have the size of the decoded image.
    """

    path: Path
    labels: GroundTruthImage


@dataclass(frozen=True)
class StudentData:
    """What a student is trained on.

    Attributes:
        class_names: by class id.
        train: the images that weights are fitted to.
        val: the images that a trainer may choose its best epoch by; never in ``train``.
    """

    class_names: tuple[str, ...]
    train: Sequence[StudentImage]
    val: Sequence[StudentImage]


@dataclass(frozen=True)
class Step:
    """How far training is.

    Attributes:
        loss: the mean since the last step that was told; None if the trainer does not tell.
    """

    epoch: float
    epochs: int
    loss: float | None = None


Progress = Callable[[Step], None]


@dataclass(frozen=True)
class TrainedModel:
    """A student that was trained.

    Attributes:
        detector: what ``labeler label --detector`` takes to use it; empty if it cannot.
        find: finds the objects in an image, uint8 ``(H, W, 3)`` RGB. Mask score and stability of an instance are 1, so
            its joint score is the student's confidence.
    """

    detector: str
    find: Callable[[Image], list[Instance]]


class Student(Protocol):
    """Trains one kind of model."""

    def train(self, dataset: StudentData, config: TrainConfig, folder: Path, progress: Progress) -> TrainedModel:
        """Train a model, or resume the training that ``folder`` holds.

        Args:
            folder: where the model is written. Checkpoints for resuming go to ``folder / "training"``.
            progress: called now and then.

        Raises:
            ModelError: the trainer is not installed, the weights cannot be loaded, or training failed.
            UsageError: the settings do not suit the student.
        """
        ...

    def load(self, class_names: Sequence[str], config: TrainConfig, folder: Path) -> TrainedModel:
        """The model that ``train`` wrote into ``folder``.

        Raises:
            ModelError: there is none, or it cannot be loaded.
        """
        ...
