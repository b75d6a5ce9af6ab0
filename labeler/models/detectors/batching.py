"""What the detectors share: preprocessing, batches without padding, and boxes in pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labeler.errors import UsageError
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.runtime import Runtime
from labeler.models.strips import padded, padded_to_ratio

LEAST_SIDE = 32  # of the input: the stride of the backbones
LONGEST_STRIP = 64  # times the short side: padded before it is scaled, since the short side may become 0
CACHED_PROMPT_LISTS = 16  # whose text features a detector keeps
Item = TypeVar("Item")


def preprocess(image_processor: Any, image: Image, runtime: Runtime) -> Tensor:
    """The model's input for one image, float32 ``(3, h, w)``; see ``Runtime.processor_input``.

    Images are processed one at a time, because processors pad the images of a batch to a common size.
    """
    return _processed(image_processor, image, runtime)["pixel_values"]


def preprocess_strip(image_processor: Any, image: Image, runtime: Runtime) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """As ``preprocess``, for models that keep the aspect ratio: very long and thin images are padded.

    Returns:
        What the processor makes of the image, such as ``pixel_values`` ``(3, h, w)`` and ``pixel_mask`` ``(h, w)``; and
        the (width, height) that boxes are relative to: those of the image, padded if thin.
    """
    image = padded_to_ratio(image, LONGEST_STRIP)
    inputs = _processed(image_processor, image, runtime)
    while (side := min(inputs["pixel_values"].shape[-2:])) < LEAST_SIDE and (long := max(image.shape[:2])) > (
        short := min(image.shape[:2])
    ):
        # The longer side decides the scale, so the input grows at its shorter side alone.
        enough = -(-short * (LEAST_SIDE + 1) // side)
        image = padded(image, min(long, max(enough, short + 1)))
        inputs = _processed(image_processor, image, runtime)
    return inputs, (image.shape[1], image.shape[0])


def _processed(image_processor: Any, image: Image, runtime: Runtime) -> dict[str, Tensor]:
    inputs = image_processor(**runtime.processor_input(image))
    return {name: values[0] for name, values in inputs.items() if isinstance(values, Tensor)}


def tokenize_to_length(tokenizer: Any, prompts: list[str], length: int) -> Any:
    """Token ids and attention mask of each prompt, both ``(len(prompts), length)``.

    Raises:
        UsageError: a prompt has more than ``length`` tokens.
    """
    for prompt, ids in zip(prompts, tokenizer(prompts).input_ids, strict=True):
        if len(ids) > length:
            raise UsageError(f"prompt {prompt!r} takes {len(ids)} tokens; the detector reads {length}: shorten it")
    return tokenizer(prompts, padding="max_length", max_length=length, return_tensors="pt")


def batches_of_equal_prompts(prompts: Sequence[Prompts], pixels: list[Tensor], size: int) -> Iterator[list[int]]:
    """Batches of at most ``size`` image indices; all images of a batch have the same prompts and the same input shape.

    Images without prompts are left out.
    """
    prompted = [index for index, image_prompts in enumerate(prompts) if image_prompts]
    return batches_by_key(prompted, lambda index: (prompts[index], pixels[index].shape), size)


def batches_by_key(items: Sequence[Item], key: Callable[[Item], Any], size: int) -> Iterator[list[Item]]:
    """Batches of at most ``size`` items with equal keys, in order."""
    groups: dict[Any, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def detections_above(
    candidate_floor: float,
    boxes_cxcywh: Tensor,
    scores: NDArray[np.float32],
    image: Image,
    scale: tuple[int, int] | None = None,
) -> Detections:
    """The boxes whose best score is ``candidate_floor`` or more, in pixels.

    Args:
        boxes_cxcywh: ``(n, 4)``, relative to ``scale``.
        scores: float32 ``(n, prompts)``.
        scale: (width, height) in pixels; None for those of ``image``.
    """
    height, width = image.shape[:2]
    kept = scores.max(1) >= candidate_floor
    centres, sizes = np.split(boxes_cxcywh.cpu().numpy()[kept].astype(np.float32), 2, axis=1)
    boxes = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    boxes *= np.asarray((scale or (width, height)) * 2, dtype=np.float32)
    return Detections(np.clip(boxes, 0, np.asarray((width, height) * 2, dtype=np.float32)), scores[kept])
