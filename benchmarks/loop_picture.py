"""The picture of ``closed_loop.py``: what teacher and student find in the same scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from loop_curves import matches
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from labeler.geometry.masks import Rle
from labeler.ground_truth import GroundTruthImage
from labeler.records import Instance
from workflows.drawing.outlines import Colour, draw_outlines, draw_tags, scaled

SIDE, GAP, TITLE, LEGEND = 250, 6, 84, 34  # pixels: of a scene, between scenes, beside a row, below all rows
TRUTH, RIGHT, WRONG = (86, 204, 255), (120, 235, 120), (255, 95, 95)
MEANINGS = {"object": TRUTH, "right: class, and mask IoU of 0.5 or more": RIGHT, "wrong": WRONG}
INK = "#16191d"
QUALITY = 85  # of a JPEG
Pixels = NDArray[np.uint8]
Drawn = tuple[str, Rle, Colour]


def write_picture(
    path: Path,
    images: Sequence[tuple[GroundTruthImage, Pixels]],
    models: Mapping[str, Sequence[Sequence[Instance]]],
    class_names: Sequence[str],
) -> None:
    """Write a picture with a column for each image: its objects, and below them what each model finds.

    Args:
        images: with their pixels, uint8 (H, W, 3) RGB.
        models: by name, the instances in each of ``images``.
    """
    rows: dict[str, list[list[Drawn]]] = {
        "truth": [[(class_names[each.class_id], each.rle, TRUTH) for each in truth.instances] for truth, _ in images]
    }
    for name, found in models.items():
        pairs = zip(images, found, strict=True)
        rows[name] = [_judged(truth, instances, class_names) for (truth, _), instances in pairs]
    size = (TITLE + len(images) * (SIDE + GAP), len(rows) * (SIDE + GAP) + LEGEND)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for line, (name, cells) in enumerate(rows.items()):
        top = line * (SIDE + GAP)
        draw.text((TITLE - 10, top + SIDE / 2), name, INK, font, anchor="rm")
        for column, ((_, pixels), drawn) in enumerate(zip(images, cells, strict=True)):
            sheet.paste(_cell(pixels, drawn), (TITLE + column * (SIDE + GAP), top))
    left, middle = float(TITLE), size[1] - LEGEND / 2
    for text, colour in MEANINGS.items():
        draw.rectangle((left, middle - 7, left + 14, middle + 7), colour, INK)
        draw.text((left + 22, middle), text, INK, font, anchor="lm")
        left += 22 + draw.textlength(text, font) + 24
    sheet.save(path, quality=QUALITY, optimize=True)


def _judged(truth: GroundTruthImage, instances: Sequence[Instance], class_names: Sequence[str]) -> list[Drawn]:
    ranked = sorted(instances, key=lambda each: -each.joint_score)
    return [
        (class_names[each.class_id], each.rle, RIGHT if right else WRONG)
        for each, right in zip(ranked, matches(truth, ranked), strict=True)
    ]


def _cell(pixels: Pixels, drawn: Sequence[Drawn]) -> Image.Image:
    """The image, ``SIDE`` pixels square, with outlines and names."""
    canvas = np.ascontiguousarray(scaled(pixels, SIDE, enlarge=True))
    for _, rle, colour in drawn:
        draw_outlines(canvas, [rle], colour)
    picture = Image.fromarray(canvas)
    draw_tags(picture, drawn)
    return picture
