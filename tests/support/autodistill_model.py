"""Autodistill models without weights: each finds the pixels brighter than the mean, in BGR, and marks their box."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import supervision as sv
from autodistill.detection import CaptionOntology, DetectionBaseModel

RAISES = 31  # the width of an image on which every model here fails


class BrightMasks(DetectionBaseModel):  # type: ignore[misc]
    """The bright pixels as one object of the last prompt, with a mask."""

    def __init__(self, ontology: CaptionOntology, confidence: float | None = 0.75) -> None:
        self.ontology = ontology
        self.confidence = confidence

    def predict(self, input: Any) -> sv.Detections:
        if input.shape[1] == RAISES:
            raise ValueError("no such luck")
        blue = input[:, :, 0]  # of BGR
        mask = blue >= max(blue.mean(), 1)
        if not mask.any():
            found = sv.Detections(np.zeros((0, 4)), class_id=np.zeros(0, int))
            found.mask = np.array([])  # float64 (0,), as autodistill_grounded_sam leaves it
            return found
        rows, columns = np.nonzero(mask)
        box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
        confidence = None if self.confidence is None else np.array([self.confidence])
        last = len(self.ontology.prompts()) - 1
        return sv.Detections(np.array(box, float), mask[None], confidence, np.array([last]))


class BrightBoxes(BrightMasks):
    """The same without a mask."""

    def predict(self, input: Any) -> sv.Detections:
        found = super().predict(input)
        found.mask = None
        return found


class TellsEnvironment(BrightMasks):
    """Its confidence comes from an environment variable."""

    def predict(self, input: Any) -> sv.Detections:
        self.confidence = float(os.environ["LABELER_TEST_CONFIDENCE"])
        return super().predict(input)


class FixedAtStart(BrightMasks):
    """Keeps the prompts that it was made with, as YOLO models do."""

    def __init__(self, ontology: CaptionOntology) -> None:
        super().__init__(ontology)
        self.last = len(ontology.prompts()) - 1

    def predict(self, input: Any) -> sv.Detections:
        found = super().predict(input)
        found.class_id = np.full(len(found), self.last)
        return found


class WrongAnswers(BrightMasks):
    """Each answer has another fault; the width of the image says which."""

    def predict(self, input: Any) -> sv.Detections:
        found = super().predict(input)
        match input.shape[1]:
            case 41:
                found.xyxy[0, 2] = np.nan
            case 42:
                found.class_id = np.array([len(self.ontology.prompts())])
            case 43:
                found.class_id = None
            case 44:
                found.confidence = np.array([np.nan])
            case 45:
                found.confidence = np.array([80.0])
            case 46:
                found.mask = found.mask[:, ::2]
            case 47:
                found.class_id = np.array([0.5])
            case 48:
                found.data["class_name"] = np.array(["horse"])
            case 49:
                found.data["class_name"] = np.array(["Cat"])
        return found


class CannotBeMade(BrightMasks):
    def __init__(self, ontology: CaptionOntology) -> None:
        raise RuntimeError("no weights here\nand a second line")


class NoModel:
    pass
