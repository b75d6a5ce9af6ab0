"""Grounding DINO, MM-Grounding-DINO and LLMDet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labeler.models.detectors.detector import Detections, Image, Prompts, above_floor, batches, merge, pixel_values_of
from labeler.models.prompts import Caption, pack_prompts
from labeler.models.runtime import Runtime


class GroundingDinoDetector:
    """Grounding DINO, MM-Grounding-DINO and LLMDet.

    A box's score for a prompt is the mean sigmoid over the prompt's tokens, as in the COCO zero-shot protocol of
    Grounding DINO (Liu et al. 2023).

    Args:
        model: ``GroundingDinoForObjectDetection`` or ``MMGroundingDinoForObjectDetection``.
        processor: its ``GroundingDinoProcessor``.
        prompts_per_caption: at most so many prompts in one forward; None packs as many as the model reads.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime, prompts_per_caption: int | None = None) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime
        budget = min(model.config.max_text_len, model.config.text_config.max_position_embeddings)
        # One ontology serves many images: pack it once.
        self._captions: Callable[[Prompts], list[Caption]] = functools.lru_cache(maxsize=1024)(
            lambda prompts: pack_prompts(prompts, processor.tokenizer, budget, prompts_per_caption)
        )

    def forward_passes(self, prompts: Prompts) -> int:
        return len(self._captions(prompts))

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        pixels = [pixel_values_of(self.processor.image_processor, image) for image in images]
        jobs = [
            (index, caption) for index, image_prompts in enumerate(prompts) for caption in self._captions(image_prompts)
        ]
        found: list[list[Detections]] = [[] for _ in images]
        for batch in batches(jobs, lambda job: pixels[job[0]].shape, self.runtime.batch_size):
            for (index, caption), logits, boxes in zip(batch, *self._forward(batch, pixels), strict=True):
                scores = np.zeros((len(boxes), len(prompts[index])), dtype=np.float32)
                for prompt_index, (start, stop) in zip(caption.prompt_indices, caption.spans, strict=True):
                    scores[:, prompt_index] = logits[:, start:stop].sigmoid().mean(1).cpu().numpy()
                found[index].append(above_floor(boxes, scores, images[index], self.runtime.floor))
        return [merge(parts, len(image_prompts)) for parts, image_prompts in zip(found, prompts, strict=True)]

    def _forward(self, batch: list[tuple[int, Caption]], pixels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits ``(B, queries, tokens)`` and boxes ``(B, queries, 4)``, cxcywh as shares of the image."""
        length = max(len(caption.token_ids) for _, caption in batch)
        input_ids = torch.zeros(len(batch), length, dtype=torch.long)
        attention_mask = torch.zeros_like(input_ids)
        for row, (_, caption) in enumerate(batch):
            input_ids[row, : len(caption.token_ids)] = torch.tensor(caption.token_ids)
            attention_mask[row, : len(caption.token_ids)] = 1
        with self.runtime.autocast():
            outputs = self.model(
                pixel_values=torch.stack([pixels[index] for index, _ in batch]).to(self.runtime.device),
                input_ids=input_ids.to(self.runtime.device),
                attention_mask=attention_mask.to(self.runtime.device),
            )
        return outputs.logits.float(), outputs.pred_boxes.float()
