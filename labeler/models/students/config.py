"""How a student is trained: the settings, and which students there are."""

from __future__ import annotations

from dataclasses import dataclass

from labeler.errors import UsageError
from labeler.models.kinds.autodistill import is_class_path
from labeler.setting import check, setting

GROUP = "training"
DEVICES = ("auto", "cpu", "mps", "cuda")
RANDOM = "random"  # in place of weights to start from


@dataclass(frozen=True)
class StudentKind:
    """What users are told about a student.

    Attributes:
        about: what it is and who trains it, in one line.
        weights: what training starts from if the user names nothing.
        licence: a line to say before training, where the licence differs from that of this package.
    """

    about: str
    weights: str
    licence: str = ""


AUTODISTILL = StudentKind("any DetectionTargetModel of autodistill; MODULE:CLASS names it", "")
STUDENTS = {
    "rf-detr": StudentKind("RF-DETR with masks, trained by transformers; needs no extra", "Roboflow/rf-detr-seg-small"),
    "yolo": StudentKind(
        "YOLO with masks, trained by Ultralytics; extra `yolo`",
        "yolo11n-seg.pt",
        "Ultralytics, and a model that it trains, are under AGPL-3.0 unless you have its commercial licence",
    ),
    "rfdetr": StudentKind("RF-DETR with masks, trained by the package rfdetr; extra `rfdetr`", "RFDETRSegSmall"),
}
DEFAULT_STUDENT = "rf-detr"


@dataclass(frozen=True)
class TrainConfig:
    """How a student is trained.

    Attributes:
        student: a key of ``STUDENTS``, or ``module:class`` of an autodistill target model.
        weights: a checkpoint folder, file or hub id; ``random`` starts from random weights; None: see ``StudentKind``.
        image_size: the side of the square that images are resized to, in pixels; None: that of the weights.
        learning_rate: the highest one; None: the student's default.
    """

    student: str = setting(
        DEFAULT_STUDENT,
        "model to train: rf-detr (transformers), yolo (Ultralytics), rfdetr (the package), or an autodistill target",
        metavar="rf-detr|yolo|rfdetr|MODULE:CLASS",
        group=GROUP,
    )
    weights: str | None = setting(
        None,
        "weights to start from: hub id, folder or file of a checkpoint, or random",
        metavar="ID|random",
        group=GROUP,
        unset="the student's published weights",
    )
    epochs: int = setting(50, "number of times that training sees each image", metavar="N", group=GROUP, least=1)
    batch_size: int = setting(8, "images per training step", metavar="N", group=GROUP, least=1)
    image_size: int | None = setting(
        None,
        "side of the square that images are resized to, in pixels",
        metavar="N",
        group=GROUP,
        least=32,
        unset="that of the weights; 320 if random",
    )
    learning_rate: float | None = setting(
        None, "highest learning rate", metavar="X", group=GROUP, above=0, unset="the student's own"
    )
    seed: int = setting(0, "seed of the training", metavar="N", group=GROUP, least=0)
    device: str = setting("auto", "where training runs; auto: CUDA, else MPS, else CPU", choices=DEVICES, group=GROUP)

    def __post_init__(self) -> None:
        check(self)
        if self.student not in STUDENTS and not is_class_path(self.student):
            raise UsageError(
                f"--student {self.student}: the students are {', '.join(STUDENTS)}, or MODULE:CLASS of an autodistill "
                "target model"
            )

    @property
    def kind(self) -> StudentKind:
        return STUDENTS.get(self.student, AUTODISTILL)

    @property
    def is_random(self) -> bool:
        return self.weights == RANDOM
