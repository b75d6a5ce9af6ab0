"""A detector of your own before SAM: this one finds objects by their colour.

    python examples/own_detector.py photos/ dataset/ "red, blue"

A detector is any class with the two methods of ``labeler.models.detectors.detector.Detector``. Everything behind it
stays as it is: SAM outlines the boxes, the records store them, and the quality gate decides.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from rich.console import Console

from labeler.models.config import PRESETS, ModelConfig
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.identity import model_identity
from labeler.models.kinds.kind import NeededModel
from labeler.models.labelers.grounded_sam import GroundedSamLabeler
from labeler.models.labelers.labeler import Labeler
from labeler.models.labelers.on_device import labeler_on_device
from labeler.models.loading import load_segmenter
from ontologies import Ontology
from workflows.commands.progress import ConsoleProgress
from workflows.label import label
from workflows.settings.job import LabelJob

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (235, 215, 50)}
LARGEST_DISTANCE = 60.0  # of a pixel's RGB value from the colour
SMALLEST_AREA = 100  # pixels


class ColourDetector:
    """A box around each patch of a colour; its score falls with the distance from the colour."""

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        return [self._detect_one(image, asked) for image, asked in zip(images, prompts, strict=True)]

    def forward_passes(self, prompts: Prompts) -> int:
        return 1

    def _detect_one(self, image: Image, prompts: Prompts) -> Detections:
        boxes, scores = [], []
        smooth = cv2.GaussianBlur(image, (7, 7), 0).astype(np.float32)
        for column, prompt in enumerate(prompts):
            distance = np.linalg.norm(smooth - np.float32(COLOURS[prompt]), axis=2)
            near = (distance < LARGEST_DISTANCE).astype(np.uint8)
            count, patches, stats, _ = cv2.connectedComponentsWithStats(near)
            for patch in range(1, count):  # patch 0 is the background
                x, y, width, height, area = stats[patch]
                if area >= SMALLEST_AREA:
                    score = np.zeros(len(prompts), np.float32)
                    score[column] = 1 - distance[patches == patch].mean() / LARGEST_DISTANCE
                    boxes.append((x, y, x + width, y + height))
                    scores.append(score)
        return Detections(
            np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32).reshape(-1, len(prompts))
        )


@dataclass(frozen=True)
class ColourKind:
    """What ``label`` is given: it travels to the workers, and loads the models there."""

    kind: ClassVar[str] = "mine/colours"

    def models(self, config: ModelConfig) -> list[NeededModel]:
        return [NeededModel(config.segmenter, "segmenter")]

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        """Records of two identities are not mixed in one folder; raise the version when the detector changes."""
        return {"labeler": self.kind, "version": 1, "segmenter": model_identity(config.segmenter)}

    def load(self, config: ModelConfig) -> Labeler:
        labeler = GroundedSamLabeler(ColourDetector(), load_segmenter(config), candidate_floor=config.floor)
        return labeler_on_device(labeler, config)


def main(images: str, output: str, colours: str, preset: str = "balanced") -> None:
    ontology = Ontology.from_text(colours)
    if unknown := {prompt for prompt, _ in ontology.prompts} - COLOURS.keys():
        raise SystemExit(f"unknown colour {min(unknown)!r}; this detector knows {', '.join(COLOURS)}")
    model = ModelConfig(detector="", segmenter=PRESETS[preset].segmenter)
    job = LabelJob(images=images, output=Path(output), ontology=ontology, model=model, labeler=ColourKind())
    progress = ConsoleProgress(Console())
    try:
        summary = label(job, progress)
    finally:
        progress.close()
    for name, verdicts in summary.dataset.verdicts.items():
        print(f"{name}: {verdicts['accept']} accepted")


if __name__ == "__main__":
    main(*sys.argv[1:])
