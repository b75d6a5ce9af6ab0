"""YOLO and RT-DETR checkpoints of Ultralytics (``.pt``), such as a model of one's own; also YOLO-World and YOLOE."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labeler.errors import ModelError, UsageError
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.detectors.known_classes import KnownClasses
from labeler.models.detectors.ultralytics_prompts import PromptedClasses, threads
from labeler.models.image_sizes import STRIDE, needs_multiple
from labeler.models.quiet_ultralytics import quiet_ultralytics

TASKS = ("detect", "segment")
NMS_IOU = 0.7  # Ultralytics' default


def load_ultralytics(
    path: str, device: str, candidate_floor: float, max_instances: int, image_size: int | None = None
) -> UltralyticsDetector:
    """The detector in the file ``path``. The file is a pickle, so loading it runs what its author put into it.

    Raises:
        ModelError: it cannot be loaded, or is for another task.
        UsageError: ``image_size`` is no multiple of the stride.
    """
    if image_size is not None and image_size % STRIDE:
        raise needs_multiple("detector", image_size, STRIDE)
    file = Path(path).expanduser()
    try:
        package = quiet_ultralytics()
        yolo = package.YOLO(str(file))
        if yolo.task in TASKS:
            is_prompted = isinstance(yolo, (package.YOLOE, package.YOLOWorld))
            prompted = PromptedClasses(yolo, file.name) if is_prompted else None
            return UltralyticsDetector(yolo, file.name, device, candidate_floor, max_instances, prompted, image_size)
    except Exception as error:  # a damaged or foreign pickle can raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"detector {path!r} cannot be loaded by ultralytics: {reason:.300}") from error
    raise ModelError(f"detector {path!r} is for the task {yolo.task!r}; known tasks: {', '.join(TASKS)}")


class UltralyticsDetector:
    """A YOLO or RT-DETR model of Ultralytics, github.com/ultralytics/ultralytics (AGPL-3.0).

    It finds the classes that are stored in the checkpoint. YOLO-World (Cheng et al. 2024, arXiv 2401.17270) and YOLOE
    (Wang et al. 2025, arXiv 2503.07465) find what prompts describe, if the prompts of an image do not all mean classes
    that are stored.

    Scaling, letterbox and non-maximum suppression (per class, ``NMS_IOU``) are those of ``predict``. Images are
    predicted one at a time: in a batch, Ultralytics pads images of different shapes, and drops the last ones if
    suppression takes long. The model has one state, so calls from several threads wait for each other. It runs in fp32.

    Args:
        yolo: ``ultralytics.YOLO``.
        name: of the checkpoint, for messages.
        prompted: sets the classes of a YOLO-World or YOLOE; None for other models.
        image_size: pixels of the longer side that images are scaled to; None for that of the checkpoint.
    """

    def __init__(
        self,
        yolo: Any,
        name: str,
        device: str,
        candidate_floor: float,
        max_instances: int,
        prompted: PromptedClasses | None = None,
        image_size: int | None = None,
    ) -> None:
        self._yolo = yolo
        self._options = dict(
            device=device, conf=candidate_floor, max_det=max_instances, iou=NMS_IOU, agnostic_nms=False, verbose=False,
            save=False,
        )  # fmt: skip
        if image_size is not None:
            self._options["imgsz"] = image_size
        names = yolo.model.names if prompted is None or prompted.stored else {}
        self._classes = KnownClasses(names if isinstance(names, dict) else dict(enumerate(names)), f"detector {name!r}")
        self._prompted = prompted if prompted and prompted.possible else None
        self._lock = threading.Lock()
        self._stored = self._predictor()
        self._open: tuple[Prompts, Any] = ((), None)  # the predictor of the prompts that were set last

    def forward_passes(self, prompts: Prompts) -> int:
        if not prompts:
            return 0
        try:
            self._classes.columns(prompts)
        except UsageError:
            if self._prompted is None:
                raise
            with self._lock:
                self._prompted.check(prompts)
        return 1

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        return [self._detect_one(image, asked) for image, asked in zip(images, prompts, strict=True)]

    def _detect_one(self, image: Image, prompts: Prompts) -> Detections:
        if not prompts:
            return Detections.none(0)
        with self._lock:
            columns = self._ask(prompts)
            result = self._predict(image, sorted(columns))
        height, width = image.shape[:2]
        boxes = result.boxes.xyxy.float().cpu().numpy().reshape(-1, 4)
        scores = np.zeros((len(boxes), len(prompts)), np.float32)
        for row, (label, score) in enumerate(zip(result.boxes.cls.tolist(), result.boxes.conf.tolist(), strict=True)):
            scores[row, columns[int(label)]] = score
        return Detections(np.clip(boxes, 0, np.asarray((width, height) * 2, np.float32)), scores)

    def _ask(self, prompts: Prompts) -> dict[int, list[int]]:
        """Take the predictor for ``prompts``; for each of its classes that they mean, their indices."""
        try:
            columns = self._classes.columns(prompts)
            self._yolo.predictor = self._stored
            return columns
        except UsageError:
            if self._prompted is None:
                raise
        names = tuple(dict.fromkeys(prompts))
        if names != self._open[0]:
            self._prompted.set(names)
            self._open = names, self._predictor()
        self._yolo.predictor = self._open[1]
        return {index: [at for at, prompt in enumerate(prompts) if prompt == name] for index, name in enumerate(names)}

    def _predictor(self) -> Any:
        """A predictor for the classes as they are set.

        Ultralytics makes it with the first prediction, and with it changes the number of threads. If that were left to
        the first image, its result would have other bits than the same image later.
        """
        self._yolo.predictor = None
        with threads():
            self._predict(np.zeros((32, 32, 3), np.uint8), None)
        return self._yolo.predictor

    def _predict(self, image: Image, classes: list[int] | None) -> Any:
        bgr = np.ascontiguousarray(image[..., ::-1])  # Ultralytics takes arrays for BGR, as OpenCV reads them
        (result,) = self._yolo.predict(bgr, classes=classes, **self._options)
        return result
