"""One sheet of labeled images: outlines, class names and scores of what was accepted, and of what nearly was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from labeler.errors import ImageError
from labeler.files.image_config import ImageConfig
from labeler.files.images import ImageFile
from labeler.geometry.masks import mask_iou
from labeler.quality import VERDICTS, Judgement, ranking_score
from labeler.quality_config import Score
from labeler.records import ImageRecord, Instance
from workflows.drawing.outlines import CLASS_COLOURS, draw_outlines, draw_tags, scaled

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

COLUMNS, CELL, CAPTION = 4, 480, 30  # cells per row; pixels of a cell's side, and of the line below it
LEGEND = 40  # pixels of the line below all cells
REJECTED = (60, 64, 72)  # behind the names of rejected candidates
DASH, DOT = 9, 4  # pixels
NOT_DRAWN = ("duplicate", "empty mask")  # a duplicate lies on what it duplicates
BEST_REJECTED = 3  # of an image
SAME_PLACE_IOU = 0.3  # with a better one that is drawn; lines over each other cannot be told apart


def write_sheet(
    judged: Iterable[tuple[ImageRecord, list[Judgement]]],
    root: AnyPath,
    class_names: Sequence[str],
    path: Path,
    rejected: int = 0,
    score: Score = "joint",
    reading: ImageConfig | None = None,
) -> None:
    """Write one picture of all images, with a legend.

    All are named and outlined in the colour of their class: accepted instances in a solid line, those under review in
    dots, the best rejected ones in dashes and with the reason. The line below an image counts all three.

    Args:
        rejected: how many rejected candidates of an image are drawn.
        score: the one to show, by which the gate ranks.
        reading: how the images were read when they were labeled.
    """
    show = _Shown(root, class_names, rejected, score, reading or ImageConfig())
    cells = [_cell(record, judgements, show) for record, judgements in judged]
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (columns * CELL, rows * (CELL + CAPTION) + LEGEND), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % COLUMNS * CELL, index // COLUMNS * (CELL + CAPTION)))
    _draw_legend(sheet, rejected > 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


@dataclass(frozen=True)
class _Shown:
    """What is shown of each image; see ``write_sheet``."""

    root: AnyPath
    class_names: Sequence[str]
    rejected: int
    score: Score
    reading: ImageConfig

    def tag(self, instance: Instance, note: str = "") -> str:
        """Class, score and a note."""
        return f"{self.class_names[instance.class_id]} {ranking_score(instance, self.score):.2f} {note}".rstrip()

    def best_rejected(self, record: ImageRecord, judgements: Sequence[Judgement]) -> list[tuple[Instance, str]]:
        """The best of the rejected instances, with the reasons; one at a place."""
        candidates = [
            (instance, judgement.reason)
            for instance, judgement in zip(record.instances, judgements, strict=True)
            if judgement.verdict == "reject" and judgement.reason not in NOT_DRAWN
        ]
        best: list[tuple[Instance, str]] = []
        for instance, reason in sorted(candidates, key=lambda each: -ranking_score(each[0], self.score)):
            if len(best) == self.rejected:
                break
            if (mask_iou([instance.rle], [other.rle for other, _ in best]) < SAME_PLACE_IOU).all():
                best.append((instance, reason))
        return best


def _cell(record: ImageRecord, judgements: list[Judgement], show: _Shown) -> Image.Image:
    """One image, ``CELL`` pixels square, with its caption."""
    cell = Image.new("RGB", (CELL, CELL + CAPTION), "white")
    draw = ImageDraw.Draw(cell)
    counts = Counter(judgement.verdict for judgement in judgements)
    caption = ", ".join(f"{verdict} {counts[verdict]}" for verdict in VERDICTS)
    try:
        # Drawn on at its final size: lines and names on a large photo would become too thin to see.
        image = ImageFile.of(show.root, record.image_id, show.reading).read()
        canvas = scaled(image.pixels, CELL, enlarge=True)
    except ImageError as error:
        draw.rectangle((0, 0, CELL - 1, CELL - 1), fill="#eceef1")
        draw.text((CELL / 2, CELL / 2), str(error)[:60], "#555d68", _font(15), anchor="mm")
        caption = "failed"
    else:
        picture = _with_instances(np.ascontiguousarray(canvas), record, judgements, show)
        cell.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    name = record.image_id
    while len(name) > 4 and draw.textlength(f"{name}   {caption}", _font(15)) > CELL - 16:
        name = f"…{name[2:]}"  # the end of a path says more than its beginning
    draw.text((8, CELL + CAPTION / 2), name, "#16191d", _font(15), anchor="lm")
    draw.text((CELL - 8, CELL + CAPTION / 2), caption, "#555d68", _font(15), anchor="rm")
    return cell


def _with_instances(
    canvas: NDArray[np.uint8], record: ImageRecord, judgements: Sequence[Judgement], show: _Shown
) -> Image.Image:
    """The image with its instances: rejected ones below those under review, and these below accepted ones."""
    rejected = show.best_rejected(record, judgements)
    pairs = list(zip(record.instances, judgements, strict=True))
    review, accepted = ([item for item, each in pairs if each.verdict == verdict] for verdict in ("review", "accept"))
    for item, _ in rejected:
        draw_outlines(canvas, [item.rle], _colour(item), 2, DASH)
    for item in review:
        draw_outlines(canvas, [item.rle], _colour(item), 2, DOT)
    for item in accepted:
        draw_outlines(canvas, [item.rle], _colour(item))
    picture = Image.fromarray(canvas)
    draw_tags(
        picture,
        [
            *((show.tag(item), item.rle, _colour(item)) for item in accepted),
            *((show.tag(item, "review"), item.rle, _colour(item)) for item in review),
            *((show.tag(item, reason), item.rle, REJECTED) for item, reason in rejected),
        ],
    )
    return picture


def _draw_legend(sheet: Image.Image, with_rejected: bool) -> None:
    """What the lines mean, at the bottom of ``sheet``; grey, since each class has a colour of its own."""
    draw, x, y = ImageDraw.Draw(sheet), 8, sheet.height - LEGEND // 2
    entries = [("accepted", 0), ("review", DOT)] + ([("best rejected", DASH)] if with_rejected else [])
    for text, dash in entries:
        for start in range(x, x + 36, 2 * dash or 36):
            draw.line((start, y, start + (dash or 36), y), REJECTED, 3)
        draw.text((x + 44, y), text, "#16191d", _font(15), anchor="lm")
        x += 44 + round(draw.textlength(text, _font(15))) + 24


def _colour(instance: Instance) -> tuple[int, int, int]:
    return CLASS_COLOURS[instance.class_id % len(CLASS_COLOURS)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
