"""Any ``DetectionBaseModel`` of autodistill as a labeler."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.errors import ModelError
from labeler.geometry.masks import clean_mask, mask_to_rle, rle_area
from labeler.models.detectors.detector import Detections
from labeler.models.labelers.autodistill_repairs import (
    is_grounded_sam,
    keep_mask_scores,
    repair_colours,
    repair_grounding_dino,
    repair_processor,
)
from labeler.models.labelers.candidates import best_candidates, instance_of
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.segmenters.segmenter import SegmentedMask, Segmenter, SegmentPrompts
from labeler.opencv import opencv
from labeler.records import Instance

try:
    from autodistill.detection import CaptionOntology, DetectionBaseModel
except ImportError:
    opencv()  # autodistill imports OpenCV; if that is the cause, this says so in one line
    raise

logger = logging.getLogger(__name__)

# They read ``self.ontology`` whenever they predict. Others may fix their classes in ``__init__``, and are made anew.
READ_WHEN_PREDICTING = (
    "autodistill_florence_2", "autodistill_grounded_sam", "autodistill_grounding_dino", "autodistill_owl_vit",
    "autodistill_owlv2",
)  # fmt: skip
ROUNDING = 1e-4  # by which a score may exceed 1


def model_class(path: str) -> type[Any]:
    """The class at ``module:class``; its package is imported.

    Raises:
        ModelError: it cannot be imported, or is no ``DetectionBaseModel``.
    """
    module, _, name = path.partition(":")
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # packages print greetings and warnings
            found = getattr(importlib.import_module(module), name, None)
    except (Exception, SystemExit) as error:
        raise ModelError(f"--labeler {path}: {module} cannot be imported: {_line(error)}") from error
    finally:
        torch.use_deterministic_algorithms(deterministic)  # some packages switch this for the whole process
    if found is None:
        raise ModelError(f"--labeler {path}: the module {module} has no {name}")
    if not (isinstance(found, type) and issubclass(found, DetectionBaseModel)):
        raise ModelError(f"--labeler {path} is no DetectionBaseModel of autodistill")
    return found


def check_arguments(path: str, arguments: Mapping[str, Any]) -> None:
    """Check that the class at ``path`` takes these arguments besides the ontology.

    Raises:
        ModelError: it does not; or see ``model_class``.
    """
    made = model_class(path)
    if inspect.isabstract(made):
        raise ModelError(f"--labeler {path} is abstract; name a class that predicts")
    signature = inspect.signature(made)
    try:
        signature.bind(ontology=None, **arguments)
    except TypeError as error:
        known = ", ".join(name for name in signature.parameters if name != "ontology") or "none"
        raise ModelError(f"--labeler-args: {path} has {error}; it takes: {known}") from None


class AutodistillLabeler:
    """A ``DetectionBaseModel`` behind the interface of labelers; one image at a time, whatever thread asks.

    The model gets a BGR array, as ``cv2.imread`` gives it, and an ontology in which each prompt is its own class, so
    that ``class_id`` is the position of the prompt. Without a confidence the score is 1. Masks without a score of their
    own have mask score 1, and stability 1.

    Args:
        path: ``module:class``, for messages.
        arguments: of the class, besides the ontology.
        prompts: what the model is first made for.
        segmenter: gives the segmenter for boxes without masks; called when the first come.
        candidate_floor, max_instances, clean_share: as in ``ModelConfig``.
        bgr_fix: see ``repair_colours``.

    Raises:
        ModelError: the model cannot be made.
    """

    def __init__(
        self,
        path: str,
        arguments: Mapping[str, Any],
        prompts: Sequence[str],
        segmenter: Callable[[], Segmenter],
        *,
        candidate_floor: float = 0.1,
        max_instances: int = 300,
        clean_share: float = 0.01,
        bgr_fix: bool = True,
    ) -> None:
        check_arguments(path, arguments)
        self._path, self._arguments, self._bgr_fix = path, dict(arguments), bgr_fix
        self._load_segmenter = segmenter
        self._segmenter: Segmenter | None = None
        self._floor, self._max_instances, self._clean_share = candidate_floor, max_instances, clean_share
        self._lock = threading.Lock()
        self._mask_scores: list[float] = []
        self._model: Any = None
        self._prompts: tuple[str, ...] = ()
        self._said_unscored = False
        self._make_for(tuple(prompts))

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        with self._lock:
            return [self._label(request) for request in requests]

    def _label(self, request: LabelRequest) -> list[Instance]:
        prompts = tuple(prompt for prompt, _ in request.ontology.prompts)
        self._make_for(prompts)
        self._mask_scores.clear()
        found = self._model.predict(np.ascontiguousarray(request.pixels[:, :, ::-1]))
        if found is None or not len(found):
            return []
        self._say_if_unscored(found)
        height, width = request.pixels.shape[:2]
        detections = detections_of(found, prompts, (height, width))
        candidates = best_candidates(detections, request.ontology, self._floor, self._max_instances)
        rows = sorted({box for box, _, _ in candidates})
        if found.mask is None:
            masks = self._segmented(request, detections.boxes_xyxy[rows])
        else:
            masks = self._own_masks(found.mask, rows, (len(found), height, width))
        mask_of = dict(zip(rows, masks, strict=True))
        return [
            instance_of(request.ontology.prompts[prompt], detections.boxes_xyxy[box].tolist(), score, mask_of[box])
            for box, prompt, score in candidates
        ]

    def _say_if_unscored(self, found: Any) -> None:
        if found.confidence is None and not self._said_unscored:
            self._said_unscored = True
            logger.warning("%s gives no confidence: each score is 1, so the gate cannot sort by it", self._path)

    def _make_for(self, prompts: tuple[str, ...]) -> None:
        """Have the model look for ``prompts``."""
        if prompts == self._prompts:
            return
        ontology = CaptionOntology({prompt: prompt for prompt in prompts})
        if self._model is not None and self._path.split(":")[0].split(".")[0] in READ_WHEN_PREDICTING:
            self._model.ontology = ontology
        else:
            self._model = None  # two may not fit into memory
            self._model = self._made(ontology)
        self._prompts = prompts

    def _made(self, ontology: Any) -> Any:
        made = model_class(self._path)
        repair_grounding_dino()
        try:
            with contextlib.redirect_stdout(sys.stderr):
                model = made(ontology=ontology, **self._arguments)
        except (Exception, SystemExit) as error:
            raise ModelError(f"--labeler {self._path} cannot be made: {_line(error)}") from error
        repair_processor(model)
        if is_grounded_sam(model):
            self._mask_scores = keep_mask_scores(model)
            if self._bgr_fix:
                repair_colours(model)
        return model

    def _segmented(self, request: LabelRequest, boxes: NDArray[np.float32]) -> list[SegmentedMask]:
        if not len(boxes):
            return []
        if self._segmenter is None:
            self._segmenter = self._load_segmenter()
        return self._segmenter.segment([request.pixels], [SegmentPrompts.of_boxes(boxes)])[0]

    def _own_masks(self, masks: Any, rows: Sequence[int], shape: tuple[int, int, int]) -> list[SegmentedMask]:
        if np.shape(masks) != shape:
            raise ValueError(f"{self._path} gave masks of shape {np.shape(masks)}, not {shape}")
        scores = self._mask_scores if len(self._mask_scores) == shape[0] else [1.0] * shape[0]
        encoded = []
        for row in rows:  # one at a time: there may be many, and large
            mask = np.asarray(masks[row])
            mask = mask > 0.5 if mask.dtype.kind == "f" else mask.astype(bool)
            rle = mask_to_rle(clean_mask(mask, self._clean_share))
            encoded.append(SegmentedMask(rle, rle_area(rle), scores[row], stability=1.0))
        return encoded


def detections_of(found: Any, prompts: Sequence[str], size: tuple[int, int]) -> Detections:
    """The boxes of supervision's ``Detections``, clipped to the image, each with its score at its own prompt.

    Args:
        prompts: what the model was asked for.
        size: (height, width) of the image.

    Raises:
        ValueError: a box, class or confidence cannot be used; the message says why.
    """
    count, prompt_count = len(found), len(prompts)
    boxes = np.asarray(found.xyxy, dtype=np.float32)
    if boxes.shape != (count, 4) or not np.isfinite(boxes).all():
        raise ValueError(f"the model gave boxes that are not {count} x 4 finite numbers")
    if found.class_id is None or np.shape(found.class_id) != (count,):
        raise ValueError("the model gave boxes without one class_id each")
    class_ids = np.asarray(found.class_id)
    # Some packages give None for a class, and so an array of objects.
    if class_ids.dtype.kind not in "iuf" or not np.isin(class_ids, np.arange(prompt_count)).all():
        raise ValueError(
            f"the model gave a class_id {class_ids.tolist()!r:.60}, not a position among the {prompt_count} prompts"
        )
    class_ids = class_ids.astype(np.int64)
    for class_id, name in zip(class_ids.tolist(), found.data.get("class_name", ()), strict=False):
        if str(name).strip().casefold() != prompts[class_id].strip().casefold():
            raise ValueError(
                f"the model calls class {class_id} {name!s:.40}, not {prompts[class_id]}: its classes are fixed"
            )
    scores = np.ones(count) if found.confidence is None else np.asarray(found.confidence, dtype=np.float64)
    if scores.shape != (count,) or not ((scores >= 0) & (scores <= 1 + ROUNDING)).all():
        raise ValueError("the model gave confidences that are not numbers from 0 to 1")
    height, width = size
    per_prompt = np.zeros((count, prompt_count), np.float32)
    per_prompt[np.arange(count), class_ids] = scores.clip(0, 1)
    return Detections(boxes.clip(0, np.asarray([width, height] * 2, np.float32)), per_prompt)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
