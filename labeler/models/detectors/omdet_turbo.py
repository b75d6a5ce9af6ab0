"""OmDet-Turbo: a detector that reads each prompt on its own, and all of them once more as a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from labeler.models.detectors.batching import (
    batches_of_equal_prompts,
    detections_above,
    preprocess,
    tokenize_to_length,
)
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.runtime import Runtime

MAX_TOKENS = 77  # of CLIP's text encoder


class OmDetTurboDetector:
    """OmDet-Turbo: Zhao et al. 2024, arXiv 2403.06892, github.com/om-ai-lab/OmDet.

    Prompts ``a`` and ``b`` are the classes, and ``Detect a, b.`` is the task. A box's score for a prompt is the sigmoid
    of its class logit.

    Args:
        model: ``OmDetTurboForObjectDetection``, on its device.
        processor: its ``OmDetTurboProcessor``.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if prompts and self._classes(prompts) else 0

    def _classes(self, prompts: Prompts) -> Any:
        return tokenize_to_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], MAX_TOKENS)

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        detections = [Detections.none(len(image_prompts)) for image_prompts in prompts]
        pixels = [preprocess(self.processor.image_processor, image, self.runtime) for image in images]
        for batch in batches_of_equal_prompts(prompts, pixels, self.runtime.images_per_pass(len(images))):
            names = [prompt.lower() for prompt in prompts[batch[0]]]
            classes = self._classes(prompts[batch[0]])
            # A long task is truncated, as in the authors' code. Every class keeps its own, whole text.
            task = self.processor.tokenizer(
                [f"Detect {', '.join(names)}."],
                padding="max_length",
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            device = self.runtime.device
            with self.runtime.autocast():
                outputs = self.model(
                    pixel_values=torch.stack([pixels[index] for index in batch]).to(device),
                    classes_input_ids=classes["input_ids"].repeat(len(batch), 1).to(device),
                    classes_attention_mask=classes["attention_mask"].repeat(len(batch), 1).to(device),
                    tasks_input_ids=task["input_ids"].repeat(len(batch), 1).to(device),
                    tasks_attention_mask=task["attention_mask"].repeat(len(batch), 1).to(device),
                    classes_structure=torch.full((len(batch),), len(names), device=device),
                )
            logits, boxes = outputs.decoder_class_logits.float(), outputs.decoder_coord_logits.float()
            for index, image_logits, image_boxes in zip(batch, logits, boxes, strict=True):
                scores = image_logits[:, : len(names)].sigmoid().cpu().numpy()
                detections[index] = detections_above(self.runtime.candidate_floor, image_boxes, scores, images[index])
        return detections
