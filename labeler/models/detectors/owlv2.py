"""OWLv2: a detector that reads each prompt on its own."""

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

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        detections = [Detections.none(len(image_prompts)) for image_prompts in prompts]
        pixels = [preprocess(self.processor.image_processor, image, self.runtime) for image in images]
        for batch in batches_of_equal_prompts(prompts, pixels, self.runtime.images_per_pass(len(images))):
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
                detections[index] = detections_above(
                    self.runtime.candidate_floor, boxes, scores, images[index], scale=(side, side)
                )
        return detections

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if prompts and self._text(prompts) else 0

    def _text(self, prompts: Prompts) -> Any:
        length = self.model.config.text_config.max_position_embeddings
        return tokenize_to_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], length)
