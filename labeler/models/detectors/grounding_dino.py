"""Grounding DINO, MM-Grounding-DINO and LLMDet: detectors that read all prompts as one caption."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labeler.models.detectors.batching import batches_by_key, detections_above, preprocess_strip
from labeler.models.detectors.captions import Caption, pack_prompts
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.runtime import Runtime


class GroundingDinoDetector:
    """Grounding DINO and the models that share its architecture.

    - Grounding DINO: Liu et al. 2023, arXiv 2303.05499, github.com/IDEA-Research/GroundingDINO.
    - MM-Grounding-DINO: Zhao et al. 2024, arXiv 2401.02361, github.com/open-mmlab/mmdetection.
    - LLMDet: Fu et al. 2025, arXiv 2501.18954, github.com/iSEE-Laboratory/LLMDet.

    A box's score for a prompt is the mean sigmoid over the prompt's tokens, as in the COCO zero-shot evaluation of
    Grounding DINO (``PostProcessCocoGrounding`` in ``demo/test_ap_on_coco.py``), or the maximum over them, as in its
    ``demo/inference_on_a_image.py``.

    Args:
        model: ``GroundingDinoForObjectDetection`` or ``MMGroundingDinoForObjectDetection``, on its device.
        processor: its ``GroundingDinoProcessor``.
        prompts_per_caption: maximum number of prompts per forward pass; None for as many as the model reads.
        prompt_score: ``mean`` or ``max``.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        runtime: Runtime,
        prompts_per_caption: int | None = None,
        prompt_score: str = "mean",
    ) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime
        self.prompt_score = prompt_score
        budget = min(model.config.max_text_len, model.config.text_config.max_position_embeddings)
        # Most images share their prompts, so captions are cached.
        self._captions: Callable[[Prompts], list[Caption]] = functools.lru_cache(maxsize=1024)(
            lambda prompts: pack_prompts(prompts, processor.tokenizer, budget, prompts_per_caption)
        )

    def forward_passes(self, prompts: Prompts) -> int:
        return len(self._captions(prompts))

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        inputs = [preprocess_strip(self.processor.image_processor, image, self.runtime) for image in images]
        pixels = [values["pixel_values"] for values, _ in inputs]
        jobs = [
            (index, caption) for index, image_prompts in enumerate(prompts) for caption in self._captions(image_prompts)
        ]
        parts: list[list[Detections]] = [[] for _ in images]
        for batch in batches_by_key(jobs, lambda job: pixels[job[0]].shape, self.runtime.images_per_pass(len(images))):
            for (index, caption), logits, boxes in zip(batch, *self._forward(batch, pixels), strict=True):
                scores = np.zeros((len(boxes), len(prompts[index])), dtype=np.float32)
                for prompt_index, (start, stop) in zip(caption.prompt_indices, caption.spans, strict=True):
                    tokens = logits[:, start:stop].sigmoid()
                    own = tokens.amax(1) if self.prompt_score == "max" else tokens.mean(1)
                    scores[:, prompt_index] = own.numpy()
                floor, scale = self.runtime.candidate_floor, inputs[index][1]
                parts[index].append(detections_above(floor, boxes, scores, images[index], scale))
        return [Detections.concatenate(own, len(asked)) for own, asked in zip(parts, prompts, strict=True)]

    def _forward(self, batch: list[tuple[int, Caption]], pixels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits ``(B, queries, tokens)`` and cxcywh boxes ``(B, queries, 4)``, relative to the image size."""
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
        # One transfer for all: the scores of many prompts would be as many.
        return outputs.logits[:, :, :length].float().cpu(), outputs.pred_boxes.float().cpu()
