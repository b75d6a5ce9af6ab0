"""YOLO and RT-DETR checkpoints of Ultralytics (``.pt``), such as a model of one's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labeler.errors import ModelError
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

    It finds the classes that are stored in the checkpoint. (YOLO-World and YOLOE store those of ``set_classes``.)

    Scaling, letterbox and non-maximum suppression (per class, ``NMS_IOU``) are those of ``predict``. Images are
    predicted one at a time: in a batch, Ultralytics pads images of different shapes, and drops the last ones if
    suppression takes long. The model has one state, so calls from several threads wait for each other. It runs in fp32.

    Args:
        yolo: ``ultralytics.YOLO``.
        name: of the checkpoint, for messages.
    """

    def __init__(self, yolo: Any, name: str, device: str, candidate_floor: float, max_instances: int) -> None:
        self._yolo = yolo
        self._options = dict(
            device=device, conf=candidate_floor, max_det=max_instances, iou=NMS_IOU, agnostic_nms=False, verbose=False,
            save=False,
        )  # fmt: skip
        self._classes = KnownClasses(_names(yolo), f"detector {name!r}")
        self._lock = threading.Lock()

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if self._classes.columns(prompts) else 0

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        return [self._detect_one(image, asked) for image, asked in zip(images, prompts, strict=True)]

    def _detect_one(self, image: Image, prompts: Prompts) -> Detections:
        if not prompts:
            return Detections.none(0)
        columns = self._classes.columns(prompts)
        with self._lock, _kept_threads():
            bgr = np.ascontiguousarray(image[..., ::-1])  # Ultralytics takes arrays for BGR, as OpenCV reads them
            (result,) = self._yolo.predict(bgr, classes=sorted(columns), **self._options)
        height, width = image.shape[:2]
        boxes = result.boxes.xyxy.float().cpu().numpy().reshape(-1, 4)
        scores = np.zeros((len(boxes), len(prompts)), np.float32)
        for row, (label, score) in enumerate(zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), strict=True)):
            scores[row, columns[int(label)]] = score
        return Detections(np.clip(boxes, 0, np.asarray((width, height) * 2, np.float32)), scores)


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
