"""Records of images whose instances have given masks, and the images themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.records import ImageRecord, Instance


def labeled_image(
    image_id: str,
    *masks: npt.NDArray[np.bool_],
    classes: Sequence[int] = (),
    scores: Sequence[float] = (),
    size: tuple[int, int] = (40, 30),
) -> ImageRecord:
    """A record with an instance per mask.

    Args:
        masks: bool ``(H, W)``, all of one size.
        classes: the class id of each, by default 0.
        scores: the detector score of each, by default 0.5.
        size: (width, height) where there is no mask.
    """
    instances = []
    for index, mask in enumerate(masks):
        rle = mask_to_rle(mask)
        class_id, score = (classes or [0] * len(masks))[index], (scores or [0.5] * len(masks))[index]
        instances.append(Instance(class_id, "prompt", rle_box_xyxy(rle), score, 0.9, 0.8, rle_area(rle), rle))
    height, width = masks[0].shape if masks else size[::-1]
    return ImageRecord(image_id, width, height, "digest", instances=tuple(instances))


def write_image(path: Path, record: ImageRecord) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (record.width, record.height), "white").save(path)


def boxes_mask(height: int, width: int, *boxes_xyxy: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    """The union of boxes, bool ``(height, width)``."""
    mask = np.zeros((height, width), dtype=bool)
    for x1, y1, x2, y2 in boxes_xyxy:
        mask[y1:y2, x1:x2] = True
    return mask
