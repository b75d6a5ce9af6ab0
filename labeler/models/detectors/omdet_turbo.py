"""OmDet-Turbo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from labeler.models.detectors.detector import (
    Detections,
    Image,
    Prompts,
    above_floor,
    fixed_length,
    nothing,
    pixel_values_of,
    shared_prompts,
)
from labeler.models.runtime import Runtime


class OmDetTurboDetector:
    """OmDet-Turbo (Zhao et al. 2024): prompts as classes, with the task "Detect a, b."."""

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if prompts and self._classes(prompts) else 0

    def _classes(self, prompts: Prompts) -> Any:
        return fixed_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], 77)

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        found = [nothing(len(image_prompts)) for image_prompts in prompts]
        pixels = [pixel_values_of(self.processor.image_processor, image) for image in images]
        for batch in shared_prompts(prompts, pixels, self.runtime.batch_size):
            names = [prompt.lower() for prompt in prompts[batch[0]]]
            classes = self._classes(prompts[batch[0]])
            task = self.processor.tokenizer(
                [f"Detect {', '.join(names)}."],
                padding="max_length",
                truncation=True,
                max_length=77,
                return_tensors="pt",
            )  # the task only colours the text; the authors cut it too
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
                found[index] = above_floor(image_boxes, scores, images[index], self.runtime.floor)
        return found
