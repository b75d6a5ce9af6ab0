"""The students ``module:class``: any ``DetectionTargetModel`` of autodistill that trains on a YOLO dataset."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from labeler.errors import ModelError, UsageError
from labeler.models.detectors.detector import Image
from labeler.models.students.config import TrainConfig
from labeler.models.students.found import LEAST_SCORE, instances_of
from labeler.models.students.staged import stage_yolo
from labeler.models.students.student import Progress, Step, StudentData, TrainedModel
from labeler.records import Instance


class AutodistillStudent:
    """See ``Student``. Autodistill fixes no names: weights are the class's first argument, and ``train`` takes the
    ``data.yaml`` and ``epochs``, as those of ``autodistill_yolov8`` and ``autodistill_yolov11`` do.

    Such a model does not say where it writes its weights, so it cannot be resumed or loaded again, and only what it
    finds in masks is measured.

    Args:
        path: ``module:class``.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def train(self, dataset: StudentData, config: TrainConfig, folder: Path, progress: Progress) -> TrainedModel:
        if config.weights is None or config.is_random:
            raise UsageError(f"--student {self._path} needs --weights: what its class is made from, such as a .pt file")
        made = self._class()
        data = stage_yolo(folder / "training" / "dataset", dataset).absolute()
        weights = os.path.abspath(config.weights) if os.path.exists(config.weights) else config.weights
        progress(Step(0, config.epochs))  # the model tells its own progress
        try:
            with chdir(folder):  # these models write their results below the current folder
                model = made(weights)
                model.train(str(data), epochs=config.epochs)
        except Exception as error:  # other people's code can raise anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(f"--student {self._path} failed: {reason:.300}") from error
        return TrainedModel("", lambda image: _found(model, image, folder, dataset.class_names))

    def load(self, class_names: Sequence[str], config: TrainConfig, folder: Path) -> TrainedModel:
        raise ModelError(f"--student {self._path} cannot be loaded again; add --restart to train it anew")

    def _class(self) -> Any:
        module, _, name = self._path.partition(":")
        try:
            from autodistill.detection import DetectionTargetModel

            found = getattr(importlib.import_module(module), name, None)
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"--student {self._path}: {module} cannot be imported: {' '.join(str(error).split()):.300}; install it"
            ) from error
        if not (isinstance(found, type) and issubclass(found, DetectionTargetModel)):
            raise ModelError(f"--student {self._path} is no DetectionTargetModel of autodistill")
        return found


def _found(model: Any, image: Image, folder: Path, class_names: Sequence[str]) -> list[Instance]:
    """What the model finds in an image, which it takes as a file."""
    from PIL import Image as PillowImage

    file = folder / "training" / "image.png"
    PillowImage.fromarray(image).save(file)
    found = model.predict(str(file), confidence=LEAST_SCORE)
    if found.mask is None or not len(found):
        return []
    masks = np.asarray(found.mask, dtype=np.bool_)
    return instances_of(masks, found.confidence.tolist(), [int(each) for each in found.class_id], class_names)
