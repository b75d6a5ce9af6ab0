"""``labeler train``: a student model, trained on a dataset by an established trainer."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import local_path
from labeler.models.students.config import GROUP as TRAINING
from labeler.models.students.config import TrainConfig
from labeler.setting import setting
from workflows.commands.evaluate import CLASS_MAP, GROUND_TRUTH, class_map_from
from workflows.commands.options import Command, Outcome, changes
from workflows.settings.changes import Changes

if TYPE_CHECKING:
    from labeler.models.students.student import Step
    from workflows.commands.progress import ConsoleProgress
    from workflows.commands.terminal import Terminal
    from workflows.training.train import TrainSummary

MEASURES = "measures"
CLASSES_SHOWN = 40
SECONDS_BETWEEN_LINES = 9.0


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    dataset: Path = setting(
        help="a labeled folder, or one of its versions", metavar="DATASET", positional=True, parse=local_path
    )
    output: Path = setting(
        help="folder for the model; re-run the same command to resume",
        metavar="MODEL",
        names=("-o", "--output"),
        parse=local_path,
    )
    config: Changes[TrainConfig] = changes(TrainConfig)
    restart: bool = setting(False, "delete what an earlier training in MODEL left, and train anew", group=TRAINING)
    val_from: str = setting(
        "all",
        "images of the val split to measure on: all, or reviewed ones alone, whose every label a person decided on",
        choices=("all", "reviewed"),
        group=MEASURES,
    )
    ground_truth: str | None = setting(
        None, f"also measure on ground truth: {GROUND_TRUTH}", metavar="PATH", group=MEASURES, unset="none"
    )
    images: str | None = setting(
        None,
        "images of --ground-truth; those that were trained on do not count",
        metavar="FOLDER",
        group=MEASURES,
        unset="those of the val and test splits",
    )
    class_map: str = setting("", CLASS_MAP, metavar="TEXT", names=("--map",), group=MEASURES, unset="same names")


def run_train(options: TrainOptions, console: Terminal) -> Outcome:
    from workflows.commands.progress import ConsoleProgress
    from workflows.training.train import TrainJob, train

    config = options.config.of(TrainConfig())
    for flag, given in (("--images", options.images is not None), ("--map", bool(options.class_map))):
        if given and options.ground_truth is None:
            raise UsageError(f"{flag} is for --ground-truth; add it, or leave {flag} out")
    if config.kind.licence:
        console.print(f"licence: {config.kind.licence}", highlight=False, markup=False)
    job = TrainJob(
        options.dataset,
        options.output,
        config,
        options.val_from,
        options.ground_truth,
        options.images,
        class_map_from(options.class_map),
        options.restart,
    )
    progress = ConsoleProgress(console)
    try:
        summary = train(job, TrainingLines(progress))
    finally:
        progress.close()
    print_training(console, summary)
    return Outcome(line=_last_line(job.output, summary))


class TrainingLines:
    """Says how far a training is, a line now and then."""

    def __init__(self, progress: ConsoleProgress) -> None:
        self._progress = progress
        self._began = self._said = time.monotonic()
        self._first: float | None = None  # the epoch at which a resumed training began

    def stage(self, doing: str) -> None:
        self._progress.stage(doing)
        self._began = time.monotonic()

    def step(self, step: Step) -> None:
        if self._first is None:
            self._first = step.epoch
        now = time.monotonic()
        if now - self._said < SECONDS_BETWEEN_LINES and step.epoch < step.epochs:
            return
        self._said = now
        loss = "" if step.loss is None else f", loss {step.loss:.3f}"
        done = step.epoch - self._first
        left = f", {(now - self._began) / done * (step.epochs - step.epoch):.0f} s left" if done > 0 else ""
        self._progress.say(f"epoch {step.epoch:.1f} of {step.epochs}{loss}{left}")

    def measured(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            self._progress.say(f"{what}: {done} of {total} images measured")


def print_training(console: Terminal, summary: TrainSummary) -> None:
    """What was trained, and the metrics."""
    from workflows.evaluation.tables import number, print_rows

    data, version = summary.dataset.data, summary.dataset.source.version
    console.print(
        f"{len(data.train)} images of the train split{f' of version {version}' if version else ''}, "
        f"{len(data.class_names)} classes; "
        f"{'trained now' if summary.trained else 'trained before, measured again (--restart trains anew)'}",
        highlight=False,
    )
    for result in summary.results.values():
        console.print(f"measured on {result.images} images, against {result.against}:", highlight=False, markup=False)
        rows = [["class", "objects", "mask AP", "AP50", "AP75", "box AP"]]
        for each in (*result.measures.classes, result.measures.total):
            metrics = (each.mask.ap, each.mask.ap50, each.mask.ap75, each.box.ap)
            rows.append([each.name, str(each.objects), *map(number, metrics)])
        print_rows(console, rows, CLASSES_SHOWN, bold_last=True)
        for reason, count in result.left_out.items():
            console.print(f"{count} images of the ground truth left out: {reason}", highlight=False)


def _last_line(output: Path, summary: TrainSummary) -> str:
    if not (detector := summary.model.detector):
        return f"model: {output}"
    classes = ", ".join(summary.dataset.data.class_names)
    return f"to label with it: labeler label IMAGES -o OUT --classes {shlex.quote(classes)} --detector {detector}"


COMMAND = Command(
    TrainOptions,
    run_train,
    examples=(
        "labeler train dataset -o student",
        "labeler train dataset -o student --student yolo --epochs 100",
        "labeler train dataset -o student --ground-truth truth.json --images checked/",
    ),
    first=("dataset", "output", "student", "weights", "epochs", "batch_size", "image_size", "val_from", "ground_truth"),
)
