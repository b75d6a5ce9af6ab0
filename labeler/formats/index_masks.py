"""One mask image for all instances of an image: each pixel has the index of a class or of an instance."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeler.geometry.masks import rle_area, rle_box_xyxy, rle_crop
from labeler.records import ImageRecord

Indices = npt.NDArray[np.uint8]
BACKGROUND, IGNORED = 0, 255


def _by_score(record: ImageRecord) -> list[int]:
    """The positions of the instances that have a mask, the best joint score first; equal ones in their order."""
    order = sorted(range(len(record.instances)), key=lambda index: -record.instances[index].joint_score)
    return [index for index in order if rle_area(record.instances[index].rle)]


def visible(record: ImageRecord) -> npt.NDArray[np.int32]:
    """Which instance each pixel shows: where several overlap, the one with the best score.

    Returns:
        int32 ``(H, W)``: the position of the instance + 1, and 0 for the background.
    """
    shown = np.zeros((record.height, record.width), dtype=np.int32)
    for index in reversed(_by_score(record)):
        rle = record.instances[index].rle
        x1, y1, x2, y2 = map(int, rle_box_xyxy(rle))
        shown[y1:y2, x1:x2][rle_crop(rle, x1, y1, x2, y2)] = index + 1
    return shown


def painted(shown: npt.NDArray[np.int32], values: Sequence[int]) -> Indices:
    """The mask with a value, 0 to 255, for each instance; see ``visible``."""
    return np.array([BACKGROUND, *values], dtype=np.uint8)[shown]


def grey_png(mask: Indices) -> bytes:
    """A PNG whose grey values are the indices, which every reader sees alike."""
    return _png(Image.fromarray(mask))


def palette_png(mask: Indices) -> bytes:
    """A PNG with the palette of Pascal VOC: the indices are stored, and colours are shown."""
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    return _png(image)


def voc_palette() -> Indices:
    """The colours of Pascal VOC, uint8 ``(256, 3)``, as in ``VOClabelcolormap.m`` of its development kit.

    The bits of an index, three at a time from the lowest, become the highest bits of red, green and blue.
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for place in range(3):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * place + channel) & 1) << (7 - place)).astype(np.uint8)
    return colours


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
