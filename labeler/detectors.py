"""Detectors: images and prompts in, boxes with a score for each prompt out.

A detector is anything with ``detect``. Those here wrap the zero-shot families of ``transformers``; ``models.py`` picks
one by the checkpoint's model type.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeler.errors import UsageError
from labeler.prompts import Caption, pack_prompts

Image = NDArray[np.uint8]
Prompts = tuple[str, ...]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Detections:
    """Candidate boxes of one image.

    Attributes:
        boxes_xyxy: float32 ``(n, 4)``, pixels of the image, clipped to it.
        scores: float32 ``(n, len(prompts))`` in [0, 1]; 0 for prompts that were not asked together with the box.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]


class Detector(Protocol):
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        """Boxes of each image for its own prompts.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            prompts: one tuple an image; images may differ, and an empty tuple gives no boxes.

        Returns:
            One ``Detections`` an image, which depends on that image and its prompts alone.
        """
        ...

    def forwards(self, prompts: Prompts) -> int:
        """How many forwards of the model these prompts take an image.

        Raises:
            UsageError: a prompt is longer than the model reads, or says nothing to it.
        """
        ...


@dataclass(frozen=True)
class Runtime:
    """Where and how a model runs.

    Attributes:
        device: a torch device.
        dtype: float32, or the lower precision of ``torch.autocast``.
        batch_size: images in one forward, at most.
        floor: boxes whose best score is lower are not reported.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    batch_size: int = 8
    floor: float = 0.1

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.split(":")[0], self.dtype, enabled=self.dtype != torch.float32)


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

    def forwards(self, prompts: Prompts) -> int:
        return len(self._captions(prompts))

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        pixels = [_pixel_values(self.processor.image_processor, image) for image in images]
        jobs = [
            (index, caption) for index, image_prompts in enumerate(prompts) for caption in self._captions(image_prompts)
        ]
        found: list[list[Detections]] = [[] for _ in images]
        for batch in _batches(jobs, lambda job: pixels[job[0]].shape, self.runtime.batch_size):
            for (index, caption), logits, boxes in zip(batch, *self._forward(batch, pixels), strict=True):
                scores = np.zeros((len(boxes), len(prompts[index])), dtype=np.float32)
                for prompt_index, (start, stop) in zip(caption.prompt_indices, caption.spans, strict=True):
                    scores[:, prompt_index] = logits[:, start:stop].sigmoid().mean(1).cpu().numpy()
                found[index].append(_above_floor(boxes, scores, images[index], self.runtime.floor))
        return [_merge(parts, len(image_prompts)) for parts, image_prompts in zip(found, prompts, strict=True)]

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


class Owlv2Detector:
    """OWLv2 (Minderer et al. 2023): one query a prompt, the image padded to a square at its bottom and right."""

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        found = [_nothing(len(image_prompts)) for image_prompts in prompts]
        pixels = [_pixel_values(self.processor.image_processor, image) for image in images]
        for batch in _shared_prompts(prompts, pixels, self.runtime.batch_size):
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
                found[index] = _above_floor(boxes, scores, images[index], self.runtime.floor, scale=(side, side))
        return found

    def forwards(self, prompts: Prompts) -> int:
        return 1 if prompts and self._text(prompts) else 0

    def _text(self, prompts: Prompts) -> Any:
        length = self.model.config.text_config.max_position_embeddings
        return _fixed_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], length)


class OmDetTurboDetector:
    """OmDet-Turbo (Zhao et al. 2024): prompts as classes, with the task "Detect a, b."."""

    def __init__(self, model: Any, processor: Any, runtime: Runtime) -> None:
        self.model = model
        self.processor = processor
        self.runtime = runtime

    def forwards(self, prompts: Prompts) -> int:
        return 1 if prompts and self._classes(prompts) else 0

    def _classes(self, prompts: Prompts) -> Any:
        return _fixed_length(self.processor.tokenizer, [prompt.lower() for prompt in prompts], 77)

    @torch.inference_mode()
    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        found = [_nothing(len(image_prompts)) for image_prompts in prompts]
        pixels = [_pixel_values(self.processor.image_processor, image) for image in images]
        for batch in _shared_prompts(prompts, pixels, self.runtime.batch_size):
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
                found[index] = _above_floor(image_boxes, scores, images[index], self.runtime.floor)
        return found


def _pixel_values(image_processor: Any, image: Image) -> Tensor:
    """One image as the model wants it, ``(3, h, w)``. Alone, so that no batch companion pads it."""
    values: Tensor = image_processor(images=image, input_data_format="channels_last", return_tensors="pt")[
        "pixel_values"
    ]
    return values[0]


def _fixed_length(tokenizer: Any, prompts: list[str], length: int) -> Any:
    for prompt, ids in zip(prompts, tokenizer(prompts).input_ids, strict=True):
        if len(ids) > length:
            raise UsageError(f"prompt {prompt!r} takes {len(ids)} tokens; the detector reads {length}: shorten it")
    return tokenizer(prompts, padding="max_length", max_length=length, return_tensors="pt")


def _shared_prompts(prompts: Sequence[Prompts], pixels: list[Tensor], size: int) -> Iterator[list[int]]:
    """Images of one prompt list and one processed shape together, so that none sees another's padding."""
    asked = [index for index, image_prompts in enumerate(prompts) if image_prompts]
    return _batches(asked, lambda index: (prompts[index], pixels[index].shape), size)


def _batches(items: Sequence[Item], key: Callable[[Item], Any], size: int) -> Iterator[list[Item]]:
    """Items of equal key together, in order, at most ``size`` at a time."""
    groups: dict[Any, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _above_floor(
    boxes_cxcywh: Tensor,
    scores: NDArray[np.float32],
    image: Image,
    floor: float,
    scale: tuple[int, int] | None = None,
) -> Detections:
    """Boxes to pixels, less those under the floor; shares of ``scale`` (width, height), else of the image's size."""
    height, width = image.shape[:2]
    kept = scores.max(1) >= floor
    centres, sizes = np.split(boxes_cxcywh.cpu().numpy()[kept].astype(np.float32), 2, axis=1)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    boxes *= np.asarray((scale or (width, height)) * 2, dtype=np.float32)
    return Detections(np.clip(boxes, 0, np.asarray((width, height) * 2, dtype=np.float32)), scores[kept])


def _nothing(prompt_count: int) -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros((0, prompt_count), np.float32))


def _merge(parts: list[Detections], prompt_count: int) -> Detections:
    parts = [_nothing(prompt_count), *parts]
    return Detections(
        np.concatenate([part.boxes_xyxy for part in parts]), np.concatenate([part.scores for part in parts])
    )
