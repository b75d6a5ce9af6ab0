"""Grounding DINO, MM-Grounding-DINO and LLMDet: detectors that read all prompts as one caption."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labeler.models.detectors.batching import batches_by_key, detections_above, preprocess_strip
from labeler.models.detectors.captions import Caption, pack_prompts
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.detectors.features import encoders_of
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
        self._caption_encoder, self._image_encoder = encoders_of(model)
        budget = min(model.config.max_text_len, model.config.text_config.max_position_embeddings)
        # Most images share their prompts, so captions are cached.
        self._captions: Callable[[Prompts], list[Caption]] = functools.lru_cache(maxsize=1024)(
            lambda prompts: pack_prompts(prompts, processor.tokenizer, budget, prompts_per_caption)
        )

    def forward_passes(self, prompts: Prompts) -> int:
        return len(self._captions(prompts))

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        captions = [self._captions(image_prompts) for image_prompts in prompts]
        inputs = [preprocess_strip(self.processor.image_processor, image, self.runtime) for image in images]
        pixels = [values["pixel_values"] for values, _ in inputs]
        parts: list[list[Detections]] = [[] for _ in images]
        captioned = [index for index, own in enumerate(captions) if own]
        size = self.runtime.images_per_pass(len(images))
        for batch in batches_by_key(captioned, lambda index: pixels[index].shape, size):
            stacked = torch.stack([pixels[index] for index in batch]).to(self.runtime.device)
            jobs = [(row, caption) for row, index in enumerate(batch) for caption in captions[index]]
            for row, caption, logits, boxes in self._forward(stacked, jobs):
                index = batch[row]
                scores = np.zeros((len(boxes), len(prompts[index])), dtype=np.float32)
                for prompt_index, (start, stop) in zip(caption.prompt_indices, caption.spans, strict=True):
                    tokens = logits[:, start:stop].sigmoid()
                    own = tokens.amax(1) if self.prompt_score == "max" else tokens.mean(1)
                    scores[:, prompt_index] = own.numpy()
                floor, scale = self.runtime.candidate_floor, inputs[index][1]
                parts[index].append(detections_above(floor, boxes, scores, images[index], scale))
        return [Detections.concatenate(own, len(asked)) for own, asked in zip(parts, prompts, strict=True)]

    def _forward(
        self, pixels: Tensor, jobs: Sequence[tuple[int, Caption]]
    ) -> Iterator[tuple[int, Caption, Tensor, Tensor]]:
        """Each job, a row of ``pixels`` and a caption, with what the model finds.

        Returns:
            Row, caption, logits ``(queries, tokens)``, and cxcywh boxes ``(queries, 4)`` relative to the image size;
            both are float32, on the CPU.
        """
        with self.runtime.autocast():
            features = self._image_encoder.read(pixels)
        size = self.runtime.images_per_pass(len(pixels))
        for start in range(0, len(jobs), size):
            rows, captions = zip(*jobs[start : start + size], strict=True)
            input_ids, attention_mask = (each.to(self.runtime.device) for each in _token_ids(captions))
            with (
                self.runtime.autocast(),
                self._image_encoder.given(features, rows),
                self._caption_encoder.given(captions),
            ):
                # Of the pixels, only the shape is read again.
                shape = pixels[:1].expand(len(rows), -1, -1, -1)
                outputs = self.model(pixel_values=shape, input_ids=input_ids, attention_mask=attention_mask)
            # One transfer for all: the scores of many prompts would be as many.
            logits, boxes = outputs.logits[:, :, : input_ids.shape[1]].float().cpu(), outputs.pred_boxes.float().cpu()
            yield from zip(rows, captions, logits, boxes, strict=True)


def _token_ids(captions: Sequence[Caption]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask ``(len(captions), tokens)``, padded to the longest caption."""
    input_ids = torch.zeros(len(captions), max(len(caption.token_ids) for caption in captions), dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for row, caption in enumerate(captions):
        input_ids[row, : len(caption.token_ids)] = torch.tensor(caption.token_ids)
        attention_mask[row, : len(caption.token_ids)] = 1
    return input_ids, attention_mask
