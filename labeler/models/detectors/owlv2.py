"""OWLv2: a detector that reads each prompt on its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from labeler.models.detectors.batching import (
    CACHED_PROMPT_LISTS,
    batches_of_equal_prompts,
    detections_above,
    preprocess,
    tokenize_to_length,
)
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.runtime import Runtime


class Owlv2Detector:
    """OWLv2: Minderer et al. 2023, arXiv 2306.09683, github.com/google-research/scenic (``projects/owl_vit``).

    Each prompt is one text query, and a box's score for it is the sigmoid of its logit. The processor pads the image
    at the bottom and right to a square; boxes are relative to that square.

    Args:
        model: ``Owlv2ForObjectDetection``, on its device.
        processor: its ``Owlv2Processor``.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime
        self._text = lru_cache(maxsize=CACHED_PROMPT_LISTS)(self._read)

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        detections = [Detections.none(len(image_prompts)) for image_prompts in prompts]
        pixels = [preprocess(self.processor.image_processor, image, self.runtime) for image in images]
        for batch in batches_of_equal_prompts(prompts, pixels, self.runtime.images_per_pass(len(images))):
            stacked = torch.stack([pixels[index] for index in batch]).to(self.runtime.device)
            with self.runtime.autocast():
                every_logit, every_box = self._forward(stacked, *self._text(prompts[batch[0]]))
            for index, logits, boxes in zip(batch, every_logit.float(), every_box.float(), strict=True):
                side = max(images[index].shape[:2])
                scores = logits.sigmoid().cpu().numpy()
                detections[index] = detections_above(
                    self.runtime.candidate_floor, boxes, scores, images[index], scale=(side, side)
                )
        return detections

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if prompts and self._tokens(prompts) else 0

    def _forward(self, pixels: Tensor, text: Tensor, is_prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, boxes, prompts)`` and boxes ``(B, boxes, 4)``, as in the forward pass of the model."""
        resized = pixels.shape[-1] != self.model.config.vision_config.image_size
        feature_map, _ = self.model.image_embedder(pixels, interpolate_pos_encoding=resized)
        features = feature_map.flatten(1, 2)
        every = len(pixels), -1, -1
        logits, _ = self.model.class_predictor(features, text.expand(every), is_prompt.expand(every[:2]))
        return logits, self.model.box_predictor(features, feature_map, interpolate_pos_encoding=resized)

    def _read(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Text features ``(1, prompts, c)`` of unit length, and which of them are prompts, bool ``(1, prompts)``."""
        tokens = self._tokens(prompts).to(self.runtime.device)
        found = self.model.owlv2.get_text_features(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        features = found.pooler_output
        features = features / torch.linalg.norm(features, ord=2, dim=-1, keepdim=True)
        return features[None], tokens["input_ids"][None, :, 0] > 0

    def _tokens(self, prompts: Prompts) -> Any:
        length = self.model.config.text_config.max_position_embeddings
        return tokenize_to_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], length)
