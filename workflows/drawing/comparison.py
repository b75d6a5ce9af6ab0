"""An image with its ground truth and its labels outlined."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from labeler.geometry.masks import Rle, rle_box_xyxy, rle_to_mask
from labeler.ground_truth import GroundTruthInstance
from labeler.opencv import opencv
from labeler.records import Instance

PICTURE_SIDE, PICTURE_QUALITY = 640, 80  # twelve stay far below 5 MB
TRUE_COLOUR, FOUND_COLOUR = (0, 220, 255), (255, 60, 200)


def comparison(
    pixels: NDArray[np.uint8],
    true: Sequence[GroundTruthInstance],
    found: Sequence[Instance],
    class_names: Sequence[str],
) -> bytes | None:
    """A JPEG of an image with the outlines of the ground truth and of its labels; None if the image is of another size.

    Args:
        pixels: uint8 ``(H, W, 3)``, RGB.
        true, found: class ids are indices of ``class_names``.
    """
    cv2 = opencv()
    height, width = pixels.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels.copy()
    labels = []
    for instances, colour, thickness in ((true, TRUE_COLOUR, 4), (found, FOUND_COLOUR, 2)):
        for instance in instances:
            if instance.rle["size"] != [height, width]:
                return None
            cv2.drawContours(canvas, _contours(instance.rle, scale), -1, colour, thickness, cv2.LINE_AA)
            x1, y1, _, y2 = rle_box_xyxy(instance.rle)
            name = class_names[instance.class_id]
            labels.append((name, x1 * scale, (y1 if colour == TRUE_COLOUR else y2) * scale, colour))
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=13)
    for name, x, y, colour in labels:
        place = (min(max(x, 2), size[0] - 40), min(max(y - 8, 2), size[1] - 16))
        draw.text(place, name, fill=colour, font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=PICTURE_QUALITY)
    return buffer.getvalue()


def _contours(rle: Rle, scale: float) -> list[Any]:
    mask = np.ascontiguousarray(rle_to_mask(rle)).view(np.uint8)
    cv2 = opencv()
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [np.round((contour + 0.5) * scale - 0.5).astype(np.int32) for contour in contours]
