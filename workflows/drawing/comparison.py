"""An image with its ground truth and its labels outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.ground_truth import GroundTruthInstance
from labeler.records import Instance
from workflows.drawing.outlines import draw_outlines, draw_tags, scaled

PICTURE_SIDE, PICTURE_QUALITY = 640, 80  # pixels, JPEG quality; twelve pictures stay far below 5 MB
GROUND_TRUTH_COLOUR, LABEL_COLOUR = (0, 220, 255), (255, 60, 200)


def comparison(
    pixels: NDArray[np.uint8],
    ground_truth: Sequence[GroundTruthInstance],
    instances: Sequence[Instance],
    class_names: Sequence[str],
) -> bytes | None:
    """A JPEG of an image with the outlines of its ground truth and of its labels; None if a mask has another size.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        ground_truth, instances: their class ids index ``class_names``.
    """
    rles = [*(each.rle for each in ground_truth), *(each.rle for each in instances)]
    if any(rle["size"] != list(pixels.shape[:2]) for rle in rles):
        return None
    canvas = np.ascontiguousarray(scaled(pixels, PICTURE_SIDE)).copy()
    draw_outlines(canvas, (each.rle for each in ground_truth), GROUND_TRUTH_COLOUR, 4)
    draw_outlines(canvas, (each.rle for each in instances), LABEL_COLOUR)
    picture = Image.fromarray(canvas)
    tags = [(class_names[each.class_id], each.rle, GROUND_TRUTH_COLOUR) for each in ground_truth]
    tags += [(class_names[each.class_id], each.rle, LABEL_COLOUR) for each in instances]
    draw_tags(picture, tags)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=PICTURE_QUALITY)
    return buffer.getvalue()
