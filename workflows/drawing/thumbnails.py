"""Pictures of instances for a page: a crop with some of its surroundings, and the outline as an SVG path."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.decisions import Decision
from labeler.errors import ImageError
from labeler.files.images import DecodedImage
from labeler.files.parallel import in_order
from labeler.geometry.masks import rle_box_xyxy, rle_crop
from labeler.quality import Judgement
from labeler.records import ImageRecord, Instance
from workflows.drawing.outlines import scaled, svg_path

SIDE = 320  # pixels of a picture's longer side, at most
CONTEXT = 1.5  # side of the crop, in sides of the object
LEAST_CROP = 48  # pixels of the image
AT_ONCE = 4  # images decoded at once
QUALITY = 75  # of the WebP file
OUTLINE_TOLERANCE = 0.5  # pixels of the picture


@dataclass(frozen=True, slots=True)
class Picture:
    """A crop for the page.

    Attributes:
        uri: the pixels, as a data URI of a WebP file; empty if the image is gone.
        note: why ``uri`` is empty.
        width, height: of the picture, pixels.
        path: the mask's outline in those pixels, as SVG path data.
        box_xyxy: the detector's box in those pixels.
    """

    uri: str = ""
    note: str = ""
    width: int = SIDE
    height: int = SIDE
    path: str = ""
    box_xyxy: tuple[float, float, float, float] | None = None


def pictures(samples: Sequence[Sample], read: Callable[[str, str], DecodedImage]) -> Iterator[tuple[Sample, Picture]]:
    """A picture of every sample. Each image is read once, by a few threads, when its pictures are asked for.

    Args:
        read: returns the image of an id and content digest, as ``Labeled.image`` does.
    """
    of_image: dict[str, list[Sample]] = {}
    for sample in samples:
        of_image.setdefault(sample.record.image_id, []).append(sample)

    def draw(group: list[Sample]) -> list[tuple[Sample, Picture]]:
        record = group[0].record
        try:
            pixels = read(record.image_id, record.digest).pixels
        except ImageError as error:
            return [(sample, Picture(note=str(error))) for sample in group]
        return [(sample, picture(pixels, sample)) for sample in group]

    for drawn in in_order(draw, of_image.values(), ahead=AT_ONCE):
        yield from drawn


def picture(pixels: NDArray[np.uint8], sample: Sample) -> Picture:
    """The picture of one sample.

    Args:
        pixels: its image, uint8 (H, W, 3), RGB.
    """
    height, width = pixels.shape[:2]
    instance = sample.instance
    left, top, right, bottom = (0, 0, width, height)
    if instance is not None:
        left, top, right, bottom = crop_around((instance.box_xyxy, rle_box_xyxy(instance.rle)), width, height)
    crop = scaled(pixels[top:bottom, left:right], SIDE)
    file = io.BytesIO()
    Image.fromarray(crop).save(file, "WEBP", quality=QUALITY)
    uri = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    size = (crop.shape[1], crop.shape[0])
    if instance is None:
        return Picture(uri, "", *size)
    scale = crop.shape[1] / (right - left)
    path = svg_path(rle_crop(instance.rle, left, top, right, bottom), scale, OUTLINE_TOLERANCE)
    x1, y1, x2, y2 = (
        (edge - start) * scale for edge, start in zip(instance.box_xyxy, (left, top, left, top), strict=True)
    )
    return Picture(uri, "", *size, path, (x1, y1, x2, y2))


def crop_around(
    boxes_xyxy: Iterable[tuple[float, float, float, float]], width: int, height: int
) -> tuple[int, int, int, int]:
    """A square of pixels around all boxes with some context, moved and cut to lie within the image."""
    filled = [box for box in boxes_xyxy if box[2] > box[0] and box[3] > box[1]]
    if not filled:
        return 0, 0, width, height
    x1, y1 = min(box[0] for box in filled), min(box[1] for box in filled)
    x2, y2 = max(box[2] for box in filled), max(box[3] for box in filled)
    side = round(max(CONTEXT * (x2 - x1), CONTEXT * (y2 - y1), LEAST_CROP))
    edges = []
    for low, high, whole in ((x1, x2, width), (y1, y2, height)):
        length = min(side, whole)
        start = min(max(round((low + high - length) / 2), 0), whole - length)
        edges.append((start, start + length))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Sample:
    """An instance that the report shows; without an instance, a whole image.

    Attributes:
        record: without its instances.
        decision: the decision that accepts the instance as it is.
    """

    record: ImageRecord
    instance: Instance | None = None
    judgement: Judgement | None = None
    decision: Decision | None = None
