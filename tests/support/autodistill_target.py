"""A target model of autodistill without weights: it learns the names of a YOLO dataset, and finds bright pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import supervision as sv
from autodistill.detection import DetectionTargetModel
from ultralytics.data.utils import check_det_dataset


class BrightTarget(DetectionTargetModel):  # type: ignore[misc]
    """Finds the bright pixels as one object of the last class."""

    def __init__(self, weights: str) -> None:
        self.weights = weights
        self.names: dict[int, str] = {}

    def train(self, dataset_yaml: str, epochs: int = 1) -> None:
        self.names = check_det_dataset(dataset_yaml)["names"]

    def predict(self, input: str, confidence: float = 0.5) -> Any:
        grey = cv2.imread(input, cv2.IMREAD_GRAYSCALE)
        mask = grey >= grey.mean()
        box = np.array([[0, 0, *mask.shape[::-1]]], float)
        return sv.Detections(box, mask[None], np.array([0.75]), np.array([len(self.names) - 1]))
