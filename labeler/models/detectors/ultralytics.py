"""YOLO checkpoints of Ultralytics (``.pt``): a model of one's own, YOLO-World and YOLOE."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labeler.errors import ModelError, UsageError
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.detectors.known_classes import KnownClasses

TASKS = ("detect", "segment")
NMS_IOU = 0.7  # Ultralytics' default


def load_ultralytics(path: str, device: str, candidate_floor: float, max_instances: int) -> UltralyticsDetector:
    """The detector in the file ``path``. The file is a pickle, so loading it runs what its author put into it.

    Raises:
        ModelError: it cannot be loaded, or is for another task.
    """
    file = Path(path).expanduser()
    # Without these, Ultralytics would install packages while it runs, and report its use to its makers.
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    try:
        from ultralytics import YOLO
        from ultralytics.utils import SETTINGS

        dict.__setitem__(SETTINGS, "sync", False)  # for this process; the user's settings file stays as it is
        with _kept_threads():
            yolo = YOLO(str(file))
    except Exception as error:  # a damaged or foreign pickle can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"detector {path!r} cannot be loaded by ultralytics: {reason:.300}") from error
    if yolo.task not in TASKS:
        raise ModelError(f"detector {path!r} is for the task {yolo.task!r}; known tasks: {', '.join(TASKS)}")
    return UltralyticsDetector(yolo, file.name, device, candidate_floor, max_instances)


class UltralyticsDetector:
    """A YOLO or RT-DETR model of Ultralytics, github.com/ultralytics/ultralytics (AGPL-3.0).

    YOLO-World (Cheng et al. 2024, arXiv 2401.17270) and YOLOE (Wang et al. 2025, arXiv 2503.07465) find what prompts
    describe, by ``set_classes``; if the checkpoint has classes for all prompts, those are used as they are. Other
    models find the classes that they were trained on.

    Scaling, letterbox and non-maximum suppression (per class, ``NMS_IOU``) are those of ``predict``. Images are
    predicted one at a time: in a batch, Ultralytics pads images of different shapes, and drops the last ones if
    suppression takes long. The model has one state, so calls from several threads wait for each other. It runs in fp32.

    Args:
        yolo: ``ultralytics.YOLO``, or a subclass.
        name: of the checkpoint, for messages.
    """

    def __init__(self, yolo: Any, name: str, device: str, candidate_floor: float, max_instances: int) -> None:
        self._yolo = yolo
        self._name = name
        self._options = dict(
            device=device, conf=candidate_floor, max_det=max_instances, iou=NMS_IOU, agnostic_nms=False, verbose=False,
            save=False,
        )  # fmt: skip
        # YOLOE without prompts has a fixed vocabulary, in a layer of its own.
        self._takes_prompts = hasattr(yolo, "set_classes") and not hasattr(yolo.model.model[-1], "lrpc")
        self._own = KnownClasses(_names(yolo), f"detector {name!r}")
        self._set: Prompts | None = None  # the prompts that replaced the checkpoint's classes
        self._replaced: dict[str, Any] = {}  # what they replaced
        self._lock = threading.Lock()

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if prompts and (self._is_open_for(prompts) or self._own.columns(prompts)) else 0

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        return [self._detect_one(image, asked) for image, asked in zip(images, prompts, strict=True)]

    def _detect_one(self, image: Image, prompts: Prompts) -> Detections:
        if not prompts:
            return Detections.none(0)
        with self._lock, _kept_threads():
            columns = self._prepare(prompts)
            bgr = np.ascontiguousarray(image[..., ::-1])  # Ultralytics takes arrays for BGR, as OpenCV reads them
            (result,) = self._yolo.predict(bgr, classes=sorted(columns), **self._options)
        height, width = image.shape[:2]
        boxes = result.boxes.xyxy.float().cpu().numpy().reshape(-1, 4)
        scores = np.zeros((len(boxes), len(prompts)), np.float32)
        for row, (label, score) in enumerate(zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), strict=True)):
            scores[row, columns[int(label)]] = score
        return Detections(np.clip(boxes, 0, np.asarray((width, height) * 2, np.float32)), scores)

    def _is_open_for(self, prompts: Prompts) -> bool:
        """Whether the text encoder is to read ``prompts``: the checkpoint has no classes for some of them."""
        if not self._takes_prompts:
            return False
        try:
            self._own.columns(prompts)
        except UsageError:
            return True
        return False

    def _prepare(self, prompts: Prompts) -> dict[int, list[int]]:
        """For each class of the model, the indices of its prompts, after ``set_classes`` where that is needed.

        Raises:
            UsageError: the model has no such class.
            ModelError: the text encoder cannot be loaded.
        """
        if not self._is_open_for(prompts):
            if self._set is not None:
                self._restore()
            return self._own.columns(prompts)
        if prompts != self._set:
            self._set_classes(prompts)
        return {column: [column] for column in range(len(prompts))}

    def _set_classes(self, prompts: Prompts) -> None:
        if self._set is None:
            model = self._yolo.model
            self._replaced = {
                name: getattr(model, name) for name in ("txt_feats", "pe", "names") if hasattr(model, name)
            }
        try:
            self._yolo.set_classes(list(prompts))
        except Exception as error:  # a missing package, a failed download, …
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(
                f"detector {self._name!r} could not read the prompts, for which Ultralytics loads a text encoder "
                f"({reason:.200}); install the package clip from github.com/ultralytics/CLIP and download the encoder, "
                "or save the model with its classes set"
            ) from error
        self._set = prompts

    def _restore(self) -> None:
        """Give the model the classes of its checkpoint again."""
        model = self._yolo.model
        for name, value in self._replaced.items():
            setattr(model, name, value)
        model.model[-1].nc = len(self._own.names)
        self._yolo.predictor = None  # it holds a copy of the model
        self._set = None


def _names(yolo: Any) -> dict[int, str]:
    names = yolo.model.names
    return dict(names) if isinstance(names, dict) else dict(enumerate(names))


@contextmanager
def _kept_threads() -> Iterator[None]:
    """Keep the number of threads that torch uses in this thread. Ultralytics changes it when it selects a CPU."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
