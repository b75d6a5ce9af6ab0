"""OWLv2."""

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


class Owlv2Detector:
    """OWLv2 (Minderer et al. 2023): one query a prompt, the image padded to a square at its bottom and right."""

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        found = [nothing(len(image_prompts)) for image_prompts in prompts]
        pixels = [pixel_values_of(self.processor.image_processor, image) for image in images]
        for batch in shared_prompts(prompts, pixels, self.runtime.batch_size):
            text = self._text(prompts[batch[0]])
            with self.runtime.autocast():
                outputs = self.model(
                    pixel_values=torch.stack([pixels[index] for index in batch]).to(self.runtime.device),
                    input_ids=text["input_ids"].repeat(len(batch), 1).to(self.runtime.device),
                    attention_mask=text["attention_mask"].repeat(len(batch), 1).to(self.runtime.device),
                )
            for index, logits, boxes in zip(batch, outputs.logits.float(), outputs.pred_boxes.float(), strict=True):
                side = max(images[index].shape[:2])
                scores = logits.sigmoid().cpu().numpy()
                found[index] = above_floor(boxes, scores, images[index], self.runtime.floor, scale=(side, side))
        return found

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if prompts and self._text(prompts) else 0

    def _text(self, prompts: Prompts) -> Any:
        length = self.model.config.text_config.max_position_embeddings
        return fixed_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], length)
