"""One sheet of labeled images: outlines, class names and scores of what was accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from labeler.errors import ImageError
from labeler.files.images import ImageFile
from labeler.quality import VERDICTS, Judgement
from labeler.records import ImageRecord, Instance
from workflows.drawing.outlines import CLASS_COLOURS, draw_outlines, draw_tags, scaled

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

COLUMNS, CELL, CAPTION = 4, 480, 30  # cells per row; pixels of a cell's side, and of the line below it
UNDER_REVIEW = (255, 176, 0)


def write_sheet(
    judged: Iterable[tuple[ImageRecord, list[Judgement]]], root: AnyPath, class_names: Sequence[str], path: Path
) -> None:
    """Write one picture of all images.

    Accepted instances are outlined in the colour of their class and named; those under review are outlined thinly in
    amber; rejected ones are not drawn. The line below an image counts all three.
    """
    cells = [_cell(record, judgements, root, class_names) for record, judgements in judged]
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (columns * CELL, rows * (CELL + CAPTION)), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % COLUMNS * CELL, index // COLUMNS * (CELL + CAPTION)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _cell(record: ImageRecord, judgements: list[Judgement], root: AnyPath, class_names: Sequence[str]) -> Image.Image:
    """One image, ``CELL`` pixels square, with its caption."""
    cell = Image.new("RGB", (CELL, CELL + CAPTION), "white")
    draw = ImageDraw.Draw(cell)
    by_verdict: dict[str, list[Instance]] = {verdict: [] for verdict in VERDICTS}
    for instance, judgement in zip(record.instances, judgements, strict=True):
        by_verdict[judgement.verdict].append(instance)
    counts = ", ".join(f"{verdict} {len(instances)}" for verdict, instances in by_verdict.items())
    try:
        # Drawn on at its final size: lines and names on a large photo would become too thin to see.
        canvas = scaled(ImageFile.of(root, record.image_id).read().pixels, CELL, enlarge=True)
    except ImageError as error:
        draw.rectangle((0, 0, CELL - 1, CELL - 1), fill="#eceef1")
        draw.text((CELL / 2, CELL / 2), str(error)[:60], "#555d68", _font(15), anchor="mm")
        counts = "failed"
    else:
        canvas = np.ascontiguousarray(canvas)
        draw_outlines(canvas, (each.rle for each in by_verdict["review"]), UNDER_REVIEW, 1)
        for each in by_verdict["accept"]:
            draw_outlines(canvas, [each.rle], _colour(each))
        picture = Image.fromarray(canvas)
        draw_tags(picture, [(_tag(each, class_names), each.rle, _colour(each)) for each in by_verdict["accept"]])
        cell.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    name = record.image_id
    while len(name) > 4 and draw.textlength(f"{name}   {counts}", _font(15)) > CELL - 16:
        name = f"…{name[2:]}"  # the end of a path says more than its beginning
    draw.text((8, CELL + CAPTION / 2), name, "#16191d", _font(15), anchor="lm")
    draw.text((CELL - 8, CELL + CAPTION / 2), counts, "#555d68", _font(15), anchor="rm")
    return cell


def _tag(instance: Instance, class_names: Sequence[str]) -> str:
    return f"{class_names[instance.class_id]} {instance.joint_score:.2f}"


def _colour(instance: Instance) -> tuple[int, int, int]:
    return CLASS_COLOURS[instance.class_id % len(CLASS_COLOURS)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
