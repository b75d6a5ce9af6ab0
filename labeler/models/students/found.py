"""From what a trained model answers to instances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.records import Instance

LEAST_SCORE = 0.001  # the candidates of a measurement; published figures keep as many


def instances_of(
    masks: Iterable[NDArray[np.bool_]], scores: Sequence[float], class_ids: Sequence[int], class_names: Sequence[str]
) -> list[Instance]:
    """One instance per mask that is not empty.

    Args:
        masks: bool ``(H, W)``, at image size.
        scores: in [0, 1].
    """
    instances = []
    for mask, score, class_id in zip(masks, scores, class_ids, strict=True):
        rle = mask_to_rle(np.asarray(mask, dtype=np.bool_))
        if area := rle_area(rle):
            box = rle_box_xyxy(rle)
            instances.append(Instance(class_id, class_names[class_id], box, score, 1.0, 1.0, area, rle))
    return instances
