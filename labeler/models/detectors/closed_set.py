"""Detectors that were trained on a fixed list of classes: DETR and the models that came from it, and YOLOS."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labeler.models.detectors.batching import batches_by_key, preprocess_strip
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.detectors.known_classes import KnownClasses
from labeler.models.runtime import Runtime


class ClosedSetDetector:
    """Any model of ``AutoModelForObjectDetection``, for the classes in ``config.id2label``.

    - DETR: Carion et al. 2020, arXiv 2005.12872; Conditional DETR: arXiv 2108.06152; Deformable DETR: arXiv 2010.04159;
      DAB-DETR: arXiv 2201.12329; YOLOS: arXiv 2106.00666; Table Transformer: arXiv 2110.00061.
    - RT-DETR: Zhao et al. 2023, arXiv 2304.08069; RT-DETRv2: arXiv 2407.17140; D-FINE: arXiv 2410.13842; DEIMv2: arXiv
      2509.20787; LW-DETR: arXiv 2406.03459; RF-DETR: arXiv 2511.09554.

    Boxes and scores are those of the family's ``post_process_object_detection``: the sigmoid of a class's logit, or the
    softmax probability of the best class, and as many of the best pairs of box and class as it keeps.

    Args:
        model: the model, on its device.
        processor: its image processor.
        name: of the checkpoint, for messages.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime, name: str) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime
        self.classes = KnownClasses(model.config.id2label, f"detector {name!r}")
        self._takes_mask = "pixel_mask" in inspect.signature(model.forward).parameters

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if self.classes.columns(prompts) else 0

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        columns = [self.classes.columns(asked) for asked in prompts]
        detections = [Detections.none(len(asked)) for asked in prompts]
        inputs = {
            index: preprocess_strip(self.processor, images[index], self.runtime)
            for index, wanted in enumerate(columns)
            if wanted
        }
        for batch in batches_by_key(
            list(inputs),
            lambda index: inputs[index][0]["pixel_values"].shape,
            self.runtime.images_per_pass(len(images)),
        ):
            found = self._forward([inputs[index] for index in batch])
            for index, result in zip(batch, found, strict=True):
                detections[index] = self._detections(result, columns[index], images[index], len(prompts[index]))
        return detections

    def _forward(self, batch: list[tuple[dict[str, Tensor], tuple[int, int]]]) -> list[dict[str, Tensor]]:
        """Scores, labels and xyxy boxes in pixels of each image; ``batch`` is of one shape, so nothing is padded."""
        names = ("pixel_values", "pixel_mask") if self._takes_mask else ("pixel_values",)
        tensors = {
            name: torch.stack([each[name] for each, _ in batch]).to(self.runtime.device)
            for name in names
            if name in batch[0][0]
        }
        with self.runtime.autocast():
            outputs = self.model(**tensors)
        outputs.logits, outputs.pred_boxes = outputs.logits.float(), outputs.pred_boxes.float()
        sizes = torch.tensor([(height, width) for _, (width, height) in batch], device=self.runtime.device)
        results: list[dict[str, Tensor]] = self.processor.post_process_object_detection(
            outputs, threshold=-1.0, target_sizes=sizes
        )
        return results

    def _detections(
        self, result: dict[str, Tensor], columns: dict[int, list[int]], image: Image, count: int
    ) -> Detections:
        """One row per box. A box that has several classes comes several times in ``result``."""
        height, width = image.shape[:2]
        labels, scores = result["labels"].cpu().numpy(), result["scores"].float().cpu().numpy()
        kept = np.isin(labels, list(columns)) & (scores >= self.runtime.candidate_floor)
        if not kept.any():
            return Detections.none(count)
        boxes, rows = np.unique(result["boxes"].float().cpu().numpy()[kept], axis=0, return_inverse=True)
        table = np.zeros((len(boxes), count), np.float32)
        for row, label, score in zip(rows.reshape(-1), labels[kept], scores[kept], strict=True):
            asked = columns[int(label)]
            table[row, asked] = np.maximum(table[row, asked], score)
        best_first = np.argsort(-table.max(1), kind="stable")
        boxes = np.clip(boxes, 0, np.asarray((width, height) * 2, np.float32)).astype(np.float32)
        return Detections(boxes[best_first], table[best_first])
