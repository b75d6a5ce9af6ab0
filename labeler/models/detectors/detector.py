"""Detectors: images and prompts in, boxes with a score for each prompt out.

A detector is anything with ``detect``. The modules beside this one wrap the zero-shot families of ``transformers``, one
each; ``labeler/models/loading.py`` picks one by the checkpoint's model type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labeler.errors import UsageError

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

    def forward_passes(self, prompts: Prompts) -> int:
        """How many forward passes of the model these prompts take an image.

        Raises:
            UsageError: a prompt is longer than the model reads, or says nothing to it.
        """
        ...


def pixel_values_of(image_processor: Any, image: Image) -> Tensor:
    """One image as the model wants it, ``(3, h, w)``. Alone, so that no batch companion pads it."""
    values: Tensor = image_processor(images=image, input_data_format="channels_last", return_tensors="pt")[
        "pixel_values"
    ]
    return values[0]


def fixed_length(tokenizer: Any, prompts: list[str], length: int) -> Any:
    for prompt, ids in zip(prompts, tokenizer(prompts).input_ids, strict=True):
        if len(ids) > length:
            raise UsageError(f"prompt {prompt!r} takes {len(ids)} tokens; the detector reads {length}: shorten it")
    return tokenizer(prompts, padding="max_length", max_length=length, return_tensors="pt")


def shared_prompts(prompts: Sequence[Prompts], pixels: list[Tensor], size: int) -> Iterator[list[int]]:
    """Images of one prompt list and one processed shape together, so that none sees another's padding."""
    asked = [index for index, image_prompts in enumerate(prompts) if image_prompts]
    return batches(asked, lambda index: (prompts[index], pixels[index].shape), size)


def batches(items: Sequence[Item], key: Callable[[Item], Any], size: int) -> Iterator[list[Item]]:
    """Items of equal key together, in order, at most ``size`` at a time."""
    groups: dict[Any, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def above_floor(
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


def nothing(prompt_count: int) -> Detections:
    return Detections(np.zeros((0, 4), np.float32), np.zeros((0, prompt_count), np.float32))


def merge(parts: list[Detections], prompt_count: int) -> Detections:
    parts = [nothing(prompt_count), *parts]
    return Detections(
        np.concatenate([part.boxes_xyxy for part in parts]), np.concatenate([part.scores for part in parts])
    )
