"""OmDet-Turbo: a detector that reads each prompt on its own, and all of them once more as a task."""

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
        self._text = lru_cache(maxsize=CACHED_PROMPT_LISTS)(self._read)

    def forward_passes(self, prompts: Prompts) -> int:
        return 1 if prompts and self._tokens(prompts) else 0

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        detections = [Detections.none(len(image_prompts)) for image_prompts in prompts]
        pixels = [preprocess(self.processor.image_processor, image, self.runtime) for image in images]
        for batch in batches_of_equal_prompts(prompts, pixels, self.runtime.images_per_pass(len(images))):
            stacked = torch.stack([pixels[index] for index in batch]).to(self.runtime.device)
            with self.runtime.autocast():
                every_logit, every_box = self._forward(stacked, *self._text(prompts[batch[0]]))
            for index, logits, boxes in zip(batch, every_logit.float(), every_box.float(), strict=True):
                scores = logits.sigmoid().cpu().numpy()
                detections[index] = detections_above(self.runtime.candidate_floor, boxes, scores, images[index])
        return detections

    def _forward(self, pixels: Tensor, classes: Tensor, task: Tensor, task_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(B, boxes, prompts)`` and boxes ``(B, boxes, 4)``, as in the forward pass of the model."""
        count = len(pixels)
        encoded = self.model.encoder(self.model.vision_backbone(pixels)).extracted_states
        outputs = self.model.decoder(
            encoded, classes.expand(-1, count, -1), task.expand(-1, count, -1), task_mask.expand(count, -1)
        )
        return outputs.decoder_classes[-1], outputs.decoder_coords[-1]

    def _read(self, prompts: Prompts) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the classes ``(prompts, 1, c)``, and features ``(tokens, 1, d)`` and mask of the task.

        The model has a cache of its own, which works class by class. So the bits of a class would depend on the classes
        that were read before.
        """
        # A long task is truncated, as in the authors' code. Every class keeps its own, whole text.
        task = self.processor.tokenizer(
            [f"Detect {', '.join(prompt.lower() for prompt in prompts)}."],
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).to(self.runtime.device)
        encoder = self.model.language_backbone
        classes = encoder(self._tokens(prompts)["input_ids"].to(self.runtime.device), encode_type="class")
        return classes[:, None], *encoder(task["input_ids"], mask=task["attention_mask"], encode_type="task")

    def _tokens(self, prompts: Prompts) -> Any:
        return tokenize_to_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], MAX_TOKENS)
