"""Images with their masks as batches for training DETR models of ``transformers``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from labeler.errors import ImageError, ModelError
from labeler.files.images import read_image
from labeler.geometry.masks import rle_to_mask
from labeler.models.students.student import StudentImage

FLIPPED = 0.5  # share of the images that are mirrored


class LabeledImages(Dataset[dict[str, Any]]):
    """Images as the processor prepares them, mirrored at random, each with its labels.

    A label has ``class_labels``, int64 ``(n,)``; ``boxes``, float32 ``(n, 4)``, centre and size relative to the image;
    and ``masks``, bool ``(n, h, w)``, of the size of ``pixel_values``.
    """

    def __init__(self, images: Sequence[StudentImage], processor: Any) -> None:
        self._images, self._processor = images, processor

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self._images[index]
        try:
            pixels = read_image(image.path).pixels
        except ImageError as error:
            raise ModelError(f"{image.path} cannot be read ({error}); export the dataset again") from error
        objects = [each for each in image.labels.instances if not (each.crowd or each.box_only)]
        masks = np.zeros((len(objects), *pixels.shape[:2]), np.bool_)
        for mask, each in zip(masks, objects, strict=True):
            mask[:] = rle_to_mask(each.rle)
        if torch.rand(()).item() < FLIPPED:
            pixels, masks = pixels[:, ::-1].copy(), masks[:, :, ::-1].copy()
        prepared = self._processor(images=pixels, input_data_format="channels_last", return_tensors="pt")
        pixel_values = prepared["pixel_values"][0]
        labels = _labels(torch.from_numpy(masks), [each.class_id for each in objects], pixel_values.shape[-2:])
        return {"pixel_values": pixel_values, "labels": labels}


def _labels(masks: Tensor, class_ids: list[int], size: tuple[int, int]) -> dict[str, Tensor]:
    """Labels at the size of the model's input; boxes are those of the full masks, and what vanishes is left out."""
    height, width = masks.shape[-2:]
    small = torch.zeros(0, *size, dtype=torch.bool)
    if len(masks):
        small = torch.nn.functional.interpolate(masks[None].float(), size=size, mode="nearest")[0] > 0.5
    kept = [index for index in range(len(masks)) if small[index].any()]
    boxes = torch.zeros(len(kept), 4)
    for row, index in enumerate(kept):
        for axis, length in ((0, width), (1, height)):
            occupied = masks[index].any(axis).nonzero().flatten()
            low, high = int(occupied[0]), int(occupied[-1]) + 1
            boxes[row, axis], boxes[row, axis + 2] = (low + high) / 2 / length, (high - low) / length
    labels = torch.tensor([class_ids[index] for index in kept], dtype=torch.long)
    return {"class_labels": labels, "boxes": boxes, "masks": small[kept]}


def collate(batch: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch for the model. Images are of one size, so nothing is padded."""
    return {
        "pixel_values": torch.stack([each["pixel_values"] for each in batch]),
        "labels": [each["labels"] for each in batch],
    }
