"""Images and prompts as SAM and its relatives take them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from labeler.geometry.masks import Rle, rle_to_mask
from labeler.models.segmenters.segmenter import SegmentPrompts

MASK_LOGIT = 10.0


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """The embeddings of one image, for any number of prompts.

    Attributes:
        embeddings: ``(1, …)`` tensors on the device of the model.
        image_size: (height, width) of the image.
        padded_size: (height, width) of the image after padding; see ``padded_to_ratio``.
        input_size: (height, width) of the padded image in the input of the model; SAM keeps the aspect ratio.
        frame_size: (height, width) of the input of the model; beyond ``input_size`` it is empty.
    """

    embeddings: list[Tensor]
    image_size: tuple[int, int]
    padded_size: tuple[int, int]
    input_size: tuple[int, int]
    frame_size: tuple[int, int]

    @property
    def scale(self) -> NDArray[np.float32]:
        """Pixels of the model's input per pixel of the image, (x, y)."""
        (height, width), (input_height, input_width) = self.padded_size, self.input_size
        return np.asarray([input_width / width, input_height / height], dtype=np.float32)


def calls(prompts: Sequence[SegmentPrompts], most: int) -> Iterator[list[tuple[int, slice]]]:
    """Which prompts of which images are decoded together: at most ``most``, with the same parts."""
    call: list[tuple[int, slice]] = []
    size = 0
    for index, own in enumerate(prompts):
        alike = call and own.parts == prompts[call[0][0]].parts
        if call and (not alike or size + len(own) > most):
            yield call
            call, size = [], 0
        if len(own) > most:
            yield from ([(index, slice(start, start + most))] for start in range(0, len(own), most))
        else:
            call.append((index, slice(0, len(own))))
            size += len(own)
    if call:
        yield call


def prompt_tensors(prompts: SegmentPrompts, image: EncodedImage, mask_side: int) -> dict[str, Any]:
    """The prompts by the names that the models give them, on the CPU.

    Args:
        mask_side: of the square mask input; see ``mask_inputs``.

    Returns:
        ``input_boxes`` ``(1, n, 4)``, ``input_points`` ``(1, n, k, 2)``, ``input_labels`` ``(1, n, k)`` and
        ``input_masks`` ``(n, 1, mask_side, mask_side)``, those that are given.
    """
    tensors: dict[str, Any] = {}
    if prompts.boxes_xyxy is not None:
        boxes = np.asarray(prompts.boxes_xyxy, np.float32)
        tensors["input_boxes"] = torch.from_numpy(boxes * np.tile(image.scale, 2))[None]
    if prompts.points_xy is not None and prompts.point_labels is not None:
        points = np.asarray(prompts.points_xy, np.float32)
        tensors["input_points"] = torch.from_numpy(points * image.scale)[None]
        tensors["input_labels"] = torch.from_numpy(np.ascontiguousarray(prompts.point_labels, np.int64))[None]
    if prompts.masks is not None:
        tensors["input_masks"] = mask_inputs(prompts.masks, image, mask_side)
    return tensors


def mask_inputs(masks: Iterable[NDArray[np.bool_] | Rle], image: EncodedImage, side: int) -> Tensor:
    """Rough masks as mask inputs, float32 ``(n, 1, side, side)``: logits of +10 on the object and -10 elsewhere.

    The models expect the logits of an earlier prediction. SAM 2 turns given masks into logits of this size
    (``_use_mask_as_output`` in ``sam2/modeling/sam2_base.py``). A mask covers the part of the square that the image
    covers in the input of the model, and is resized as SAM 2 resizes mask inputs.
    """
    inner = [max(1, round(size * side / frame)) for size, frame in zip(image.input_size, image.frame_size, strict=True)]
    inputs = []
    for each in masks:
        mask = rle_to_mask(each) if isinstance(each, dict) else each
        whole = np.zeros(image.padded_size, np.float32)
        whole[: mask.shape[0], : mask.shape[1]] = mask
        resized = functional.interpolate(
            torch.from_numpy(whole)[None, None], inner, mode="bilinear", align_corners=False, antialias=True
        )
        inputs.append(functional.pad(resized, (0, side - inner[1], 0, side - inner[0])))
    return torch.cat(inputs) * (2 * MASK_LOGIT) - MASK_LOGIT
