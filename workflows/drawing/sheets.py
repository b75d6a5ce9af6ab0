"""One sheet of labeled images: outlines, colours and scores of what was accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from labeler.errors import ImageError
from labeler.files.images import read_image
from labeler.geometry.masks import rle_to_mask
from labeler.opencv import opencv
from labeler.quality import VERDICTS, Judgement
from labeler.records import ImageRecord, Instance

try:
    import supervision as sv
except ImportError:
    opencv()  # if that cannot be imported, this says so in one line
    raise

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

COLUMNS, CELL, CAPTION = 4, 480, 30  # cells a row; pixels of a cell's side, and of the line below it
UNDER_REVIEW = sv.Color(255, 176, 0)
# What can be read on the colour of each class.
_INKS = sv.ColorPalette(
    [
        sv.Color.BLACK if 0.3 * c.r + 0.6 * c.g + 0.1 * c.b > 120 else sv.Color.WHITE
        for c in sv.ColorPalette.DEFAULT.colors
    ]
)


def write_sheet(
    judged: Iterable[tuple[ImageRecord, list[Judgement]]], root: AnyPath, class_names: Sequence[str], path: Path
) -> None:
    """Write one picture of all images: what is accepted filled, what is under review outlined, and the counts."""
    cells = [_cell(record, judgements, root, class_names) for record, judgements in judged]
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (columns * CELL, rows * (CELL + CAPTION)), "white")
    for index, cell in enumerate(cells):
        sheet.paste(cell, (index % COLUMNS * CELL, index // COLUMNS * (CELL + CAPTION)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _cell(record: ImageRecord, judgements: list[Judgement], root: AnyPath, class_names: Sequence[str]) -> Image.Image:
    """One image of ``CELL`` pixels square, with its caption."""
    cell = Image.new("RGB", (CELL, CELL + CAPTION), "white")
    draw = ImageDraw.Draw(cell)
    by_verdict: dict[str, list[Instance]] = {verdict: [] for verdict in VERDICTS}
    for instance, judgement in zip(record.instances, judgements, strict=True):
        by_verdict[judgement.verdict].append(instance)
    counts = ", ".join(f"{verdict} {len(found)}" for verdict, found in by_verdict.items())
    try:
        pixels = read_image(root / record.image_id).pixels
    except ImageError as error:
        draw.rectangle((0, 0, CELL - 1, CELL - 1), fill="#eceef1")
        draw.text((CELL / 2, CELL / 2), str(error)[:60], "#555d68", _font(15), anchor="mm")
        counts = "failed"
    else:
        cv2, scale = opencv(), CELL / max(pixels.shape[:2])
        size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        small = np.asarray(cv2.resize(pixels, size, interpolation=way), dtype=np.uint8)
        small = overlay(small, by_verdict["accept"], by_verdict["review"], class_names)
        cell.paste(Image.fromarray(small), ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    name = record.image_id
    while len(name) > 4 and draw.textlength(f"{name}   {counts}", _font(15)) > CELL - 16:
        name = f"…{name[2:]}"  # the end of a path says more than its beginning
    draw.text((8, CELL + CAPTION / 2), name, "#16191d", _font(15), anchor="lm")
    draw.text((CELL - 8, CELL + CAPTION / 2), counts, "#555d68", _font(15), anchor="rm")
    return cell


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def overlay(
    pixels: NDArray[np.uint8], accepted: Sequence[Instance], review: Sequence[Instance], class_names: Sequence[str]
) -> NDArray[np.uint8]:
    """``pixels``, uint8 ``(H, W, 3)`` RGB, the image at any size, with masks, classes and joint scores drawn in."""
    scene = pixels[..., ::-1].copy()  # supervision draws in BGR
    if review:
        scene = sv.PolygonAnnotator(UNDER_REVIEW, thickness=2).annotate(scene, _detections(review, pixels))
    if not accepted:
        return scene[..., ::-1]
    detections = _detections(accepted, pixels)
    labels = [f"{class_names[i.class_id]} {i.joint_score:.2f}" for i in accepted]
    scene = sv.MaskAnnotator(opacity=0.35).annotate(scene, detections)
    scene = sv.PolygonAnnotator(thickness=2).annotate(scene, detections)
    annotator = sv.LabelAnnotator(text_color=_INKS, text_scale=0.4, text_padding=3, smart_position=True)
    return np.asarray(annotator.annotate(scene, detections, labels=labels), dtype=np.uint8)[..., ::-1]


def _detections(instances: Sequence[Instance], pixels: NDArray[np.uint8]) -> sv.Detections:
    """Instances of an image at the size of ``pixels``."""
    cv2 = opencv()
    height, width = pixels.shape[:2]
    masks = [
        cv2.resize(rle_to_mask(i.rle).astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA) >= 128
        for i in instances
    ]
    scale = width / instances[0].rle["size"][1]
    return sv.Detections(
        xyxy=np.array([i.box_xyxy for i in instances], dtype=np.float32) * scale,
        mask=np.array(masks),
        class_id=np.array([i.class_id for i in instances]),
    )
