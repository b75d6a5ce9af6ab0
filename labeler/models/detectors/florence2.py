"""Florence-2: a vision-language model that answers a prompt with the boxes of what it describes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from labeler.errors import UsageError
from labeler.models.detectors.batching import batches_by_key
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.runtime import Runtime

TASK = "<OPEN_VOCABULARY_DETECTION>"
BEAMS = 3  # as in the model card
MAX_NEW_TOKENS = 1024


class Florence2Detector:
    """Florence-2: Xiao et al. 2023, arXiv 2311.06242.

    Each prompt is asked on its own, with the task ``<OPEN_VOCABULARY_DETECTION>``. So every box of the answer belongs
    to that prompt, and no label is read from the answer's text. (``<CAPTION_TO_PHRASE_GROUNDING>`` splits "dog with a
    red collar" into two phrases and gives the boxes of both.) Polygons in the answer become their bounding boxes.
    Decoding is beam search without sampling, so the same input gives the same answer.

    The model gives no confidence: all scores are 1.0. It tends to answer with a box even where nothing fits; see
    ``labeler.models.taggers.verified``.

    Args:
        model: ``Florence2ForConditionalGeneration``, on its device.
        processor: its ``Florence2Processor``.
    """

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime
        kind = processor.tasks_answer_post_processing_type[TASK]
        processor.post_processor.parse_task_config.setdefault(kind, {})  # it has no settings, and may not be listed
        self._words = Lock()  # a fast tokenizer fails if two threads use it at once
        self._tokens: Callable[[str], Tensor] = functools.lru_cache(maxsize=1024)(self._tokenize)

    def forward_passes(self, prompts: Prompts) -> int:
        return len([self._tokens(prompt) for prompt in prompts])

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        parts: list[list[Detections]] = [[] for _ in images]
        features = self._features(images, [index for index, asked in enumerate(prompts) if asked])
        jobs = [(index, column) for index, asked in enumerate(prompts) for column in range(len(asked))]

        def length(job: tuple[int, int]) -> int:  # prompts of equal length need no padding
            index, column = job
            return len(self._tokens(prompts[index][column]))

        for batch in batches_by_key(jobs, length, self.runtime.batch_size):
            token_ids = torch.stack([self._tokens(prompts[index][column]) for index, column in batch])
            answers = self._generate(token_ids, torch.stack([features[index] for index, _ in batch]))
            for (index, column), answer in zip(batch, answers, strict=True):
                parts[index].append(self._read(answer, images[index], column, len(prompts[index])))
        # Batches go by length. Afterwards, boxes are put in the order of the prompts.
        return [
            Detections.concatenate(sorted(own, key=_first_column), len(asked))
            for own, asked in zip(parts, prompts, strict=True)
        ]

    def _tokenize(self, prompt: str) -> Tensor:
        """Token ids of the task with ``prompt``, with a placeholder for each token of the image.

        Raises:
            UsageError: the prompt is too long, or contains what marks the model's own tokens.
        """
        if "<" in prompt or ">" in prompt:
            raise UsageError(f"prompt {prompt!r} contains '<' or '>', which mark Florence-2's own tokens: remove them")
        blank = PIL.Image.new("RGB", (8, 8))
        with self._words:
            ids: Tensor = self.processor(images=blank, text=TASK + prompt, return_tensors="pt")["input_ids"][0]
        most = self.model.config.text_config.max_position_embeddings
        if len(ids) > most:
            raise UsageError(
                f"prompt {prompt!r} takes {len(ids)} tokens with the image; the detector reads {most}: shorten it"
            )
        return ids

    def _features(self, images: Sequence[Image], wanted: list[int]) -> dict[int, Tensor]:
        """Image features ``(tokens, d)`` of each image in ``wanted``, computed once for all its prompts."""
        features: dict[int, Tensor] = {}
        for start in range(0, len(wanted), self.runtime.batch_size):
            batch = wanted[start : start + self.runtime.batch_size]
            pictures = [PIL.Image.fromarray(images[index]) for index in batch]
            pixels = self.processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
            with self.runtime.autocast():
                found = self.model.get_image_features(pixels.to(self.runtime.device)).pooler_output
            features.update(zip(batch, found, strict=True))
        return features

    def _generate(self, token_ids: Tensor, features: Tensor) -> list[list[int]]:
        """The tokens of each answer."""
        token_ids = token_ids.to(self.runtime.device)
        mask = torch.ones_like(token_ids)
        text_config = self.model.config.text_config
        with self.runtime.autocast():
            embeddings = self.model.get_input_embeddings()(token_ids)
            is_image = (token_ids == self.model.config.image_token_id)[..., None]
            embeddings = embeddings.masked_scatter(is_image, features.to(embeddings.dtype))
            encoded = self.model.model.get_encoder()(inputs_embeds=embeddings, attention_mask=mask)
            sequences = self.model.generate(
                encoder_outputs=encoded,
                attention_mask=mask,
                max_new_tokens=min(MAX_NEW_TOKENS, text_config.max_position_embeddings - 1),
                do_sample=False,
                num_beams=BEAMS,
                num_return_sequences=1,
            )
        answers: list[list[int]] = sequences.tolist()
        return answers

    def _read(self, tokens: list[int], image: Image, column: int, count: int) -> Detections:
        """The boxes of an answer, with score 1.0 for the prompt of ``column``."""
        height, width = image.shape[:2]
        with self._words:
            text = self.processor.tokenizer.decode(tokens, skip_special_tokens=False)
            answer = self.processor.post_process_generation(text=text, task=TASK, image_size=(width, height))[TASK]
        polygons = [np.reshape(polygon, (-1, 2)) for part in answer["polygons"] for polygon in part if polygon]
        outlined = [(*polygon.min(0), *polygon.max(0)) for polygon in polygons]
        boxes = np.asarray([*answer["bboxes"], *outlined], np.float32).reshape(-1, 4)
        boxes = np.unique(np.clip(boxes, 0, np.asarray((width, height) * 2, np.float32)), axis=0)  # it repeats itself
        scores = np.zeros((len(boxes), count), np.float32)
        scores[:, column] = 1.0
        return Detections(boxes, scores)


def _first_column(detections: Detections) -> int:
    return int(detections.scores.argmax(1)[0]) if len(detections.scores) else 0
