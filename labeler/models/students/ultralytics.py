"""The student ``yolo``: YOLO with masks, trained by Ultralytics (AGPL-3.0)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labeler.errors import LabelerError, ModelError, UsageError
from labeler.models.detectors.detector import Image
from labeler.models.devices import resolved_device
from labeler.models.quiet_ultralytics import quiet_ultralytics
from labeler.models.students.config import TrainConfig
from labeler.models.students.found import LEAST_SCORE, instances_of
from labeler.models.students.staged import stage_yolo
from labeler.models.students.student import Progress, Step, StudentData, TrainedModel
from labeler.records import Instance

ARCHITECTURE = "yolo11n-seg.yaml"  # of random weights
RANDOM_SIZE, PUBLISHED_SIZE = 320, 640
RANDOM_RATE = 2e-3
STRIDE = 32
MODEL = "model.pt"
WAY = "give a .pt file with masks, such as yolo11n-seg.pt of github.com/ultralytics/assets, or --weights random"
LAST, BEST = "last.pt", "best.pt"  # names that Ultralytics gives


class UltralyticsStudent:
    """See ``Student``. The folder holds ``model.pt``, which ``--detector`` takes."""

    def train(self, dataset: StudentData, config: TrainConfig, folder: Path, progress: Progress) -> TrainedModel:
        side = config.image_size or (RANDOM_SIZE if config.is_random else PUBLISHED_SIZE)
        if side % STRIDE:
            raise UsageError(f"--image-size {side}: YOLO needs a multiple of {STRIDE}")
        make = _yolo_class()
        work = folder / "training"
        weights = work / "run" / "weights"
        _restore(weights)
        last = weights / LAST
        options: dict[str, Any] = dict(
            data=str(stage_yolo(work / "dataset", dataset)), epochs=config.epochs, batch=config.batch_size, imgsz=side,
            seed=config.seed, device=resolved_device(config.device), project=str(work.absolute()), name="run",
            exist_ok=True, plots=False, verbose=False, workers=0, amp=False,
        )  # fmt: skip
        rate = config.learning_rate or (RANDOM_RATE if config.is_random else None)
        if rate is not None:
            options |= dict(lr0=rate, optimizer="AdamW")
        if config.is_random:
            options["nbs"] = config.batch_size  # by default, it sums up the gradients of 64 images

        def on_save(trainer: Any) -> None:
            _keep(weights)
            progress(_step(trainer))

        try:
            if not _is_finished(last, config.epochs):
                yolo = make(str(last), task="segment") if last.exists() else _begun(make, config, work)
                yolo.add_callback("on_model_save", on_save)
                yolo.train(**options, resume=last.exists(), pretrained=not config.is_random)
                _keep(weights)
        except LabelerError:
            raise
        except Exception as error:  # weights of strangers can raise anything
            raise ModelError(f"training with Ultralytics failed: {_reason(error)}") from error
        shutil.copyfile(weights / BEST, folder / MODEL)
        return self.load(dataset.class_names, config, folder)

    def load(self, class_names: Sequence[str], config: TrainConfig, folder: Path) -> TrainedModel:
        file = folder / MODEL
        try:
            yolo = _yolo_class()(str(file), task="segment")
        except Exception as error:  # a damaged pickle can raise anything
            raise ModelError(f"{file} cannot be loaded by ultralytics: {_reason(error)}") from error
        device = resolved_device(config.device)

        def find(image: Image) -> list[Instance]:
            bgr = np.ascontiguousarray(image[..., ::-1])  # Ultralytics takes arrays for BGR, as OpenCV reads them
            (result,) = yolo.predict(
                bgr, conf=LEAST_SCORE, max_det=100, device=device, retina_masks=True, verbose=False, save=False
            )
            if result.masks is None:
                return []
            masks = (result.masks.data > 0.5).cpu().numpy()
            scores, labels = result.boxes.conf.tolist(), [int(label) for label in result.boxes.cls.tolist()]
            return instances_of(masks, scores, labels, class_names)

        return TrainedModel(str(file), find)


def _yolo_class() -> Any:
    """``ultralytics.YOLO``, which prints nothing.

    Raises:
        ModelError: Ultralytics is not installed.
    """
    os.environ.setdefault("YOLO_VERBOSE", "false")
    try:
        return quiet_ultralytics().YOLO
    except ImportError as error:
        raise ModelError(
            "--student yolo needs Ultralytics (AGPL-3.0): pip install 'autodistill-labeler[yolo]'"
        ) from error


def _begun(make: Any, config: TrainConfig, work: Path) -> Any:
    """The model that training starts from.

    Raises:
        ModelError: the weights are neither here nor can they be downloaded, or they make no masks.
    """
    named = ARCHITECTURE if config.is_random else config.weights or config.kind.weights
    if not (config.is_random or os.path.exists(named)):
        from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

        if named not in GITHUB_ASSETS_NAMES:
            raise ModelError(f"--weights {named}: no such file; {WAY}")
        named = str(work / named)  # else Ultralytics would download it into the current folder
    try:
        yolo = make(named, task="segment")
    except Exception as error:  # weights of strangers can raise anything
        fault = f"cannot be loaded by ultralytics: {_reason(error)}"
        if not (config.is_random or os.path.exists(named)):
            fault = "is not on this machine and could not be downloaded"
        raise ModelError(f"weights {os.path.basename(named)!r} {fault}; {WAY}") from error
    if yolo.task != "segment":
        raise ModelError(f"weights {os.path.basename(named)!r} are for the task {yolo.task!r}; {WAY}")
    return yolo


def _keep(weights: Path) -> None:
    """Copy the checkpoints, which Ultralytics overwrites in place: a kill meanwhile would leave half a file."""
    for name in (BEST, LAST):
        partial = weights / f"{name}.partial"
        shutil.copyfile(weights / name, partial)
        partial.replace(weights / f"{name}.kept")


def _restore(weights: Path) -> None:
    """Take the copies again, if there are any."""
    for name in (BEST, LAST):
        (weights / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.copyfile(weights / f"{name}.kept", weights / name)


def _is_finished(last: Path, epochs: int) -> bool:
    """Whether all epochs are done: Ultralytics refuses to resume then. In the end, it sets the epoch to -1."""
    if not last.exists():
        return False
    content: dict[str, Any] = torch.load(last, map_location="cpu", weights_only=False)  # written by this training
    return not 0 <= int(content["epoch"]) < epochs - 1


def _reason(error: Exception) -> str:
    return f"{' '.join(str(error).split()) or type(error).__name__:.300}"


def _step(trainer: Any) -> Step:
    """The loss of Ultralytics is a tensor or, in newer versions, a dictionary of its parts."""
    parts = trainer.tloss
    if isinstance(parts, dict):
        parts = list(parts.values())
    loss = None if parts is None else sum(float(part) for part in torch.as_tensor(parts).flatten())
    return Step(trainer.epoch + 1, trainer.epochs, loss)
