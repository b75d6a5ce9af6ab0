"""Pictures of instances, against the pixels they show."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image

from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.quality import Judgement
from labeler.records import ImageRecord, Instance
from workflows.drawing.thumbnails import SIDE, Sample, crop_around, picture


def ring(side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    radius = np.hypot(rows - 0.4 * side, columns - 0.6 * side)
    return (radius < 0.25 * side) & (radius > 0.12 * side)


@pytest.mark.parametrize("side", [60, 300, 2000])
def test_a_picture_shows_the_mask_where_it_is(side: int) -> None:
    """The outline, filled by even-odd rule, is the mask of the crop: what it covers is the white ring in the pixels."""
    mask = ring(side)
    pixels = np.where(mask[..., None], 255, 0).repeat(3, axis=2).astype(np.uint8)
    rle = mask_to_rle(mask)
    instance = Instance(0, "ring", rle_box_xyxy(rle), 0.9, 0.9, 0.9, rle_area(rle), rle)
    shown = picture(pixels, Sample(ImageRecord("ring.png", side, side, ""), instance, Judgement("accept")))
    assert max(shown.width, shown.height) <= SIDE
    data = base64.b64decode(shown.uri.removeprefix("data:image/webp;base64,"))
    drawn = np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 127
    assert drawn.shape == (shown.height, shown.width)
    rows, columns = np.mgrid[: shown.height, : shown.width]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    inside = np.zeros(drawn.shape, np.bool_)
    rings = re.findall(r"M([^Z]+)Z", shown.path)
    assert len(rings) == 2
    for points in rings:
        polygon = np.array([[float(number) for number in point.split()] for point in points.split("L")])
        inside ^= Outline(polygon).contains_points(centres).reshape(drawn.shape)
    assert (inside & drawn).sum() / (inside | drawn).sum() > 0.93
    assert shown.box_xyxy is not None
    found_rows, found_columns = np.nonzero(drawn)
    box = (found_columns.min(), found_rows.min(), found_columns.max() + 1, found_rows.max() + 1)
    assert np.abs(np.array(box) - shown.box_xyxy).max() < 2.5


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(100, 100, 200, 140)], (75, 45, 225, 195)),  # 1.5 times the longer side, around the middle
        ([(0, 0, 100, 100)], (0, 0, 150, 150)),  # moved into the image
        ([(390, 290, 400, 300)], (352, 252, 400, 300)),  # no smaller than can be made out
        ([(0, 0, 400, 300)], (0, 0, 400, 300)),  # no larger than the image
        ([(0, 0, 0, 0)], (0, 0, 400, 300)),  # an empty mask: the whole image
        ([(0, 0, 0, 0), (100, 100, 200, 140)], (75, 45, 225, 195)),
    ],
)
def test_crops(boxes: list[tuple[float, float, float, float]], expected: tuple[int, int, int, int]) -> None:
    assert crop_around(boxes, 400, 300) == expected
