"""The student ``rfdetr``: RF-DETR with masks, trained by the package ``rfdetr`` (Apache-2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labeler.errors import ModelError, UsageError
from labeler.models.detectors.detector import Image
from labeler.models.devices import resolved_device
from labeler.models.students.config import TrainConfig
from labeler.models.students.found import LEAST_SCORE, instances_of
from labeler.models.students.staged import stage_roboflow
from labeler.models.students.student import Progress, Step, StudentData, TrainedModel
from labeler.records import Instance

MODEL = "checkpoint_best_total.pth"  # the package's name for its best weights
LAST = "last.ckpt"  # what it resumes from


class RfdetrPackageStudent:
    """See ``Student``. ``--weights`` names a class of the package, such as ``RFDETRSegNano``."""

    def train(self, dataset: StudentData, config: TrainConfig, folder: Path, progress: Progress) -> TrainedModel:
        package, name = _package(), config.weights or config.kind.weights
        if config.is_random:
            raise UsageError("--student rfdetr starts from published weights; leave out --weights random")
        if not (name.startswith("RFDETRSeg") and hasattr(package, name)):
            raise UsageError(f"--weights {name}: --student rfdetr takes a class of the package, such as RFDETRSegNano")
        work = folder / "training" / "run"
        last = work / LAST
        options: dict[str, Any] = dict(
            dataset_dir=str(stage_roboflow(folder / "training" / "dataset", dataset)), output_dir=str(work),
            epochs=config.epochs, batch_size=config.batch_size, seed=config.seed,
            device=resolved_device(config.device), resume=str(last) if last.exists() else None,
        )  # fmt: skip
        if config.learning_rate is not None:
            options["lr"] = config.learning_rate
        if config.image_size is not None:
            options["resolution"] = config.image_size
        progress(Step(0, config.epochs))  # the package tells its own progress
        try:
            getattr(package, name)().train(**options)
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(f"training with rfdetr failed: {reason:.300}") from error
        return self.load(dataset.class_names, config, folder)

    def load(self, class_names: Sequence[str], config: TrainConfig, folder: Path) -> TrainedModel:
        file = folder / "training" / "run" / MODEL
        try:
            model = _package().RFDETR.from_checkpoint(str(file))
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise ModelError(f"{file} cannot be loaded by rfdetr: {error!s:.300}") from error

        def find(image: Image) -> list[Instance]:
            found = model.predict(image, threshold=LEAST_SCORE)
            if found.mask is None or not len(found):
                return []
            found = found[found.class_id < len(class_names)]  # the class after the last one is the background
            masks = np.asarray(found.mask, dtype=np.bool_)
            return instances_of(masks, found.confidence.tolist(), found.class_id.tolist(), class_names)

        return TrainedModel("", find)


def _package() -> Any:
    try:
        import rfdetr
    except ImportError as error:
        raise ModelError(
            "--student rfdetr needs the package rfdetr: pip install 'autodistill-labeler[rfdetr]'; --student rf-detr "
            "trains the same kind of model without it"
        ) from error
    return rfdetr
