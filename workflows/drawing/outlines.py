"""Scaled images, and masks drawn on them as outlines: a fill would change the colour of the object.

Outlines run along pixel edges. They are drawn in colour on a dark line, so that they show on any background.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from labeler.geometry.masks import Rle, rle_box_xyxy
from labeler.geometry.polygons import mask_to_outlines
from labeler.opencv import opencv

Colour = tuple[int, int, int]  # RGB
CASING: Colour = (16, 16, 16)
# Hues that are told apart on a dark line, also by most people with a colour vision deficiency.
CLASS_COLOURS: tuple[Colour, ...] = (
    (255, 225, 77),
    (86, 204, 255),
    (255, 120, 200),
    (120, 235, 120),
    (255, 150, 60),
    (190, 150, 255),
    (240, 240, 240),
    (0, 225, 190),
    (255, 95, 95),
    (200, 215, 90),
)
_SUBPIXEL_BITS = 4  # OpenCV draws between pixels with so many bits
_TAG_SIZE, _TAG_PADDING = 13, 3  # pixels


def scaled(pixels: NDArray[np.uint8], side: int, enlarge: bool = False) -> NDArray[np.uint8]:
    """An image whose longer side is ``side`` pixels; without ``enlarge``, a smaller image stays as it is.

    Args:
        pixels: uint8 (H, W, 3).
    """
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale > 1 and not enlarge:
        return pixels
    cv2 = opencv()
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=way), dtype=np.uint8)


def draw_outlines(
    canvas: NDArray[np.uint8], rles: Iterable[Rle], colour: Colour, thickness: int = 2, dash: int = 0
) -> None:
    """Draw the outlines of masks into ``canvas``.

    Args:
        canvas: uint8 (H, W, 3) RGB, contiguous: the masks' whole image at any size.
        dash: pixels of ``canvas`` that each dash and each gap is long; 0 draws the whole line.
    """
    cv2 = opencv()
    for rle in rles:
        scale = np.array([canvas.shape[1] / rle["size"][1], canvas.shape[0] / rle["size"][0]])
        # OpenCV counts from the middle of the first pixel, an outline from its edge.
        placed = [line * scale - 0.5 for line in mask_to_outlines(rle)]
        if dash:
            placed = [piece for line in placed for piece in _dashes(line, dash)]
        lines = [np.round(line * 2**_SUBPIXEL_BITS).astype(np.int32) for line in placed]
        for drawn, width in ((CASING, thickness + (1 if dash else 2)), (colour, thickness)):
            cv2.polylines(canvas, lines, not dash, drawn, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _dashes(line: NDArray[np.float64], length: float) -> list[NDArray[np.float64]]:
    """The dashes of a closed line (n, 2), each and the gap behind it ``length`` long."""
    closed = np.concatenate([line, line[:1]])
    ends = np.concatenate([[0.0], np.hypot(*np.diff(closed, axis=0).T).cumsum()])
    dashes = []
    for start in np.arange(0, ends[-1], 2 * length):
        stop = min(start + length, ends[-1])
        along = np.concatenate([[start], ends[(ends > start) & (ends < stop)], [stop]])
        dashes.append(np.stack([np.interp(along, ends, closed[:, axis]) for axis in (0, 1)], axis=1))
    return dashes


def draw_tags(picture: Image.Image, tags: Sequence[tuple[str, Rle, Colour]]) -> None:
    """Write a text at each mask, on a ground of its colour; above the mask, or where there is room.

    Args:
        picture: RGB, the masks' whole image at any size.
        tags: (text, mask, colour).
    """
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(_TAG_SIZE)
    height = _TAG_SIZE + 2 * _TAG_PADDING
    taken: list[tuple[float, float, float, float]] = []
    for text, rle, colour in tags:
        scale = picture.width / rle["size"][1]
        x1, y1, _, y2 = (edge * scale for edge in rle_box_xyxy(rle))
        width = draw.textlength(text, font) + 2 * _TAG_PADDING
        left = max(min(x1, picture.width - width), 0)
        tops = [y1 - height - 2, y2 + 2, *(y1 + step * height for step in range(8))]
        boxes = [(left, top, left + width, top + height) for top in tops if 0 <= top <= picture.height - height]
        boxes = boxes or [(left, 0, left + width, height)]
        box = next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0])
        taken.append(box)
        draw.rectangle(box, fill=colour)
        ink = "black" if 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2] > 120 else "white"
        draw.text((box[0] + _TAG_PADDING, (box[1] + box[3]) / 2), text, ink, font, anchor="lm")


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def svg_path(mask: NDArray[np.bool_] | Rle, scale: float = 1.0, tolerance: float = 0.0) -> str:
    """The outline of a mask as SVG path data; holes are lines of their own.

    Args:
        mask: bool (H, W), or RLE.
        scale: of the drawing, in its units per pixel of the mask.
        tolerance: how far the path may run from the outline, in units of the drawing; what is smaller is left out.
    """
    lines = mask_to_outlines(mask)
    if tolerance:
        cv2 = opencv()
        scaled_lines = [(line * scale).astype(np.float32) for line in lines]
        lines = [np.round(cv2.approxPolyDP(line, tolerance, True)[:, 0]).astype(np.int32) for line in scaled_lines]
        lines = [line for line in lines if len(line) > 2]
    return "".join("M" + "L".join(f"{x} {y}" for x, y in line.tolist()) + "Z" for line in lines)
