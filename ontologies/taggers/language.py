"""Taggers that ask a vision-language model: Florence-2 with a task, others with a prompt in their chat template."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import PIL.Image
import torch

from ontologies.ontology import OntologyError
from ontologies.taggers import Image, Tags, best_first
from ontologies.taggers.answers import clean_tags, parse_tags

PROMPT = (
    "List the objects that can be seen in this image. Answer with one comma separated list of short English nouns, "
    "each object once, and nothing else."
)
TASK = "<OD>"
# Qwen2-VL refuses aspect ratios above 200. Longer images are padded at the bottom or right to this ratio.
MAX_ASPECT = 100


class LanguageTagger:
    """Asks a model of ``AutoModelForImageTextToText`` what is visible in an image. Decoding is greedy.

    Florence-2 (Xiao et al. 2023, arXiv 2311.06242) takes a task: ``<OD>`` and ``<DENSE_REGION_CAPTION>`` give labels of
    regions; ``<CAPTION>``, ``<DETAILED_CAPTION>`` and ``<MORE_DETAILED_CAPTION>`` give text. Qwen2-VL, Qwen2.5-VL and
    other models with a chat template take a question.

    The score of every tag is 1.0, because these models do not say how sure they are. The probability of a token depends
    on the wording and on earlier tokens, not only on whether the object is there.

    Images of a batch are padded on the left and the padding is masked, so other images change a result by rounding
    only.

    Args:
        model: the model, on its device.
        processor: its processor.
        prompt: a task of Florence-2, or the question for other models; None for ``TASK`` or ``PROMPT``.
        batch_size: maximum number of images per call of ``generate``.
        max_new_tokens: maximum length of an answer.
        autocast: returns the context that forward passes run in, such as ``torch.autocast``.

    Attributes:
        unparsed: the number of answers without a readable tag so far; these images have no tags.

    Raises:
        OntologyError: the processor has no chat template, or Florence-2 has no such task.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        prompt: str | None = None,
        batch_size: int = 4,
        max_new_tokens: int = 256,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.autocast = autocast
        self.unparsed = 0
        self._counting = threading.Lock()
        self._is_florence = model.config.model_type == "florence2"
        self.prompt = prompt or (TASK if self._is_florence else PROMPT)
        if self._is_florence:
            tasks = processor.task_prompts_without_inputs
            if self.prompt not in tasks:
                raise OntologyError(f"Florence-2 has no task {self.prompt!r}; its tasks are {', '.join(tasks)}")
        elif not getattr(processor, "chat_template", None):
            kind = model.config.model_type
            raise OntologyError(f"a tagger of type {kind!r} has no chat template; use Florence-2 or a chat model")

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        tagged: list[Tags] = []
        for start in range(0, len(images), self.batch_size):
            batch = [_picture(image) for image in images[start : start + self.batch_size]]
            for picture, tokens in zip(batch, self._generate(batch), strict=True):
                tags = self._read(picture, tokens)
                with self._counting:
                    self.unparsed += not tags
                tagged.append(best_first(dict.fromkeys(tags, 1.0)))
        return tagged

    @torch.inference_mode()
    def _generate(self, pictures: list[PIL.Image.Image]) -> list[list[int]]:
        """The tokens of each answer, without the prompt."""
        inputs = self._inputs(pictures).to(self.model.device, dtype=self.model.dtype)
        with self.autocast():
            sequences = self.model.generate(
                **inputs, max_new_tokens=self.max_new_tokens, do_sample=False, num_beams=1, num_return_sequences=1
            )
        prompt_length = 0 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        answers: list[list[int]] = sequences[:, prompt_length:].tolist()
        return answers

    def _inputs(self, pictures: list[PIL.Image.Image]) -> Any:
        if self._is_florence:  # all inputs have the same length, so there is nothing to pad
            return self.processor(images=pictures, text=[self.prompt] * len(pictures), return_tensors="pt")
        content = [{"type": "image"}, {"type": "text", "text": self.prompt}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        begins = self.processor.tokenizer.bos_token
        return self.processor(
            images=[[picture] for picture in pictures],
            text=[text] * len(pictures),
            padding=True,
            padding_side="left",
            add_special_tokens=not (begins and text.startswith(begins)),
            return_tensors="pt",
        )

    def _read(self, picture: PIL.Image.Image, tokens: list[int]) -> list[str]:
        """The tags of an answer."""
        decode = self.processor.tokenizer.decode
        text: str = decode(tokens, skip_special_tokens=True)
        if self._is_florence:
            marked = decode(tokens, skip_special_tokens=False)
            size = (picture.width, picture.height)
            try:
                answers = self.processor.post_process_generation(text=marked, task=self.prompt, image_size=size)
            except (ValueError, IndexError, KeyError, AttributeError, TypeError):
                return []  # the answer does not have the form that the task prescribes
            if isinstance(answer := answers[self.prompt], dict):
                return clean_tags(answer["labels"])
        return parse_tags(text, complete=self._ended(tokens))

    def _ended(self, tokens: list[int]) -> bool:
        """Whether the model ended the answer, so that it was not truncated at ``max_new_tokens``."""
        ends = self.model.generation_config.eos_token_id
        return len(tokens) < self.max_new_tokens or not {*(ends if isinstance(ends, list) else [ends])}.isdisjoint(
            tokens
        )


def _picture(image: Image) -> PIL.Image.Image:
    """The image, padded to at most ``MAX_ASPECT``."""
    height, width = image.shape[:2]
    least = -(-max(height, width) // MAX_ASPECT)
    missing = ((0, max(0, least - height)), (0, max(0, least - width)), (0, 0))
    return PIL.Image.fromarray(np.pad(image, missing))
