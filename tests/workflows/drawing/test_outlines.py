"""Outlines and tags, looked at pixel by pixel."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from labeler.geometry.masks import mask_to_rle
from tests.support.hard_masks import HARD_MASKS
from workflows.drawing.outlines import draw_outlines, draw_tags, scaled, svg_path

GREY, AMBER = 128, (255, 176, 0)


def ring(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    radius = np.hypot(rows - 0.5 * height, columns - 0.5 * width)
    return (radius < 0.4 * height) & (radius > 0.2 * height)


@pytest.mark.parametrize("canvas_size", [(120, 180), (60, 90), (480, 720)])
def test_an_outline_runs_between_object_and_background_and_fills_nothing(canvas_size: tuple[int, int]) -> None:
    mask = ring(120, 180)
    canvas = np.full((*canvas_size, 3), GREY, np.uint8)
    draw_outlines(canvas, [mask_to_rle(mask)], AMBER)
    changed = (canvas != GREY).any(axis=2)
    large = np.asarray(Image.fromarray(mask).resize(canvas_size[::-1], Image.Resampling.NEAREST))
    inside = ndimage.distance_transform_edt(np.pad(large, 1))[1:-1, 1:-1]
    distance = np.where(large, inside, ndimage.distance_transform_edt(~large))
    scale = canvas_size[0] / 120
    assert not changed[distance > 4 + 1.5 * scale].any()
    assert changed[distance <= 1].mean() > 0.99
    assert (canvas == AMBER).all(axis=2).any()
    assert (canvas < 40).all(axis=2).any()  # the dark line beneath


@pytest.mark.parametrize("name", HARD_MASKS)
def test_whatever_the_mask_it_is_drawn(name: str) -> None:
    mask = HARD_MASKS[name]
    canvas = np.full((4 * mask.shape[0], 4 * mask.shape[1], 3), GREY, np.uint8)
    draw_outlines(canvas, [mask_to_rle(mask)], AMBER)
    assert (canvas != GREY).any() == mask.any()


def test_a_tag_has_the_colour_of_its_outline_and_covers_no_other() -> None:
    rle = mask_to_rle(ring(100, 100))
    picture = Image.new("RGB", (300, 300), (GREY, GREY, GREY))
    colours = [(255, 95, 95), (120, 235, 120), (86, 204, 255)]
    draw_tags(picture, [("ring 0.50", rle, colour) for colour in colours])
    pixels = np.asarray(picture)
    boxes = []
    for colour in colours:
        rows, columns = np.nonzero((pixels == colour).all(axis=2))
        boxes.append((rows.min(), rows.max(), columns.min(), columns.max()))
        part = pixels[rows.min() : rows.max(), columns.min() : columns.max()].reshape(-1, 3)
        assert (part == 0).all(axis=1).any()  # the text, in black on these
    boxes.sort()
    assert all(before[1] < after[0] for before, after in pairwise(boxes))


def test_a_tag_stays_in_the_picture() -> None:
    mask = np.zeros((50, 50), np.bool_)
    mask[:, 45:] = True
    picture = Image.new("RGB", (50, 50))
    draw_tags(picture, [("a name that is far too long", mask_to_rle(mask), AMBER)])
    assert (np.asarray(picture) == AMBER).all(axis=2).any()


@pytest.mark.parametrize(
    ("size", "side", "enlarge", "expected"),
    [
        ((400, 200), 100, False, (100, 50)),
        ((40, 20), 100, False, (40, 20)),
        ((40, 20), 100, True, (100, 50)),
        ((1000, 1), 100, False, (100, 1)),
    ],
)
def test_scaled(size: tuple[int, int], side: int, enlarge: bool, expected: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 77, np.uint8)
    image = scaled(pixels, side, enlarge)
    assert image.shape == (*expected, 3)
    assert (image == 77).all()


def test_a_path_leaves_out_what_is_too_small_to_see() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[10:90, 10:90] = mask[2, 2] = True
    assert svg_path(mask).count("M") == 2
    assert svg_path(mask, 0.25, 0.8) in ("M2 2L2 22L22 22L22 2Z", "M22 2L2 2L2 22L22 22Z", "M2 22L22 22L22 2L2 2Z")
    assert svg_path(np.zeros((5, 5), np.bool_)) == ""
