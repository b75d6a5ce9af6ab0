"""What ``labeler evaluate`` leaves in ``OUT/evaluation``: figures as JSON and Markdown, a histogram, pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from labeler.errors import ImageError
from labeler.images import DecodedImage
from labeler.masks import Rle, rle_box_xyxy, rle_to_mask
from labeler.migrations import VERSIONS
from labeler.opencv import opencv
from labeler.storage import remove, write_bytes
from workflows.evaluate import WORST, Evaluation, WorstImage
from workflows.evaluation_tables import (
    SEMANTIC_NOTE,
    SIDES,
    coco_lines,
    lvis_metrics,
    lvis_rows,
    markdown,
    notes,
    number,
    overlap_rows,
    single_rows,
    verdict_rows,
)

if TYPE_CHECKING:
    from labeler.storage import AnyPath

BINS = 20
PICTURE_SIDE, PICTURE_QUALITY = 640, 80  # twelve stay far below 5 MB
TRUE_COLOUR, FOUND_COLOUR = (0, 220, 255), (255, 60, 200)
NAMES_SHOWN = 20


def write_evaluation(
    folder: AnyPath,
    evaluation: Evaluation,
    read: Callable[[str, str], DecodedImage],
    truth: str,
    protocol: str | None,
) -> None:
    """Write everything into ``folder``; what an earlier evaluation left there is replaced.

    Args:
        read: gives the image of an id and content digest, as ``Labeled.image``; those that are gone have no picture.
        truth: what it was measured against, to be named.
        protocol: ``lvis`` adds that table.
    """
    pictures: list[str | None] = []
    for position in range(WORST):
        name = f"worst_{position + 1:02d}.jpg"
        picture = _picture(evaluation, evaluation.worst[position], read) if position < len(evaluation.worst) else None
        if picture is None:
            remove(folder / name)
        else:
            write_bytes(folder / name, picture)
        pictures.append(name if picture else None)
    write_bytes(folder / "histogram.png", _histogram(evaluation))
    text = _markdown(evaluation, pictures, truth, protocol)
    write_bytes(folder / "evaluation.md", text.encode())
    content = to_json(evaluation, pictures, truth, protocol)
    write_bytes(folder / "evaluation.json", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def to_json(
    evaluation: Evaluation, pictures: list[str | None], truth: str = "", protocol: str | None = None
) -> dict[str, Any]:
    """Plain values; shares are in [0, 1], and None is for what is not defined."""
    config, measured = evaluation.config, evaluation.measured
    scores = np.asarray(evaluation.image_scores)
    counts, edges = np.histogram(scores, bins=BINS, range=(0, 1))
    return {
        "version": VERSIONS["evaluation.json"],
        "truth": truth,
        "protocol": protocol,
        "settings": {
            **asdict(config.measures),
            "class_map": dict(config.class_map),
            "every_class": config.every_class,
            "by_hand": config.by_hand,
            "include_review": evaluation.include_review,
            "quality": evaluation.quality.to_dict(),
        },
        "decided": evaluation.decided,
        "semantic_truth": evaluation.semantic,
        "images": evaluation.images,
        "not_compared": {key: getattr(evaluation, key) for key in SIDES},
        "all": asdict(measured.total),
        "classes": [asdict(each) for each in measured.classes],
        "single_object": {rule: asdict(each) for rule, each in measured.single.items()},
        **({"lvis": lvis_metrics(evaluation)} if protocol == "lvis" else {}),
        "image_score": {
            "mean": float(scores.mean()) if scores.size else None,
            "histogram": {"edges": edges.round(3).tolist(), "counts": counts.tolist()},
        },
        "worst": [
            {"image_id": each.image_id, **asdict(each.measures), "picture": picture}
            for each, picture in zip(evaluation.worst, pictures, strict=False)
        ],
    }


def _markdown(evaluation: Evaluation, pictures: list[str | None], truth: str, protocol: str | None) -> str:
    config, measured = evaluation.config.measures, evaluation.measured
    ranked = f"{config.rank_by} score"
    parts = [
        f"# Labels against {truth}",
        f"{evaluation.images} images. Precision, recall and F1 are of what the quality gate accepted, at mask IoU "
        f"{config.iou:g}; IoU and boundary (IoU of the inner boundaries, Cheng et al. 2021) are means over "
        "those matched pairs, semantic is the IoU of the pixels of the class. AP is COCO's, over all candidates "
        f"ranked by {ranked}.",
    ]
    if config.band_width:
        parts.append(
            f"Tolerant: IoU where {config.band_width} pixels on each side of the true contour weigh "
            f"{config.band_weight:g}."
        )
    if evaluation.semantic:
        parts.append(SEMANTIC_NOTE)
    parts += [f"Note: {note}." for note in notes(evaluation)]
    gate = ", ".join(f"{name} {value}" for name, value in evaluation.quality.to_dict().items() if value)
    parts.append(f"The gate: {gate}.")
    parts += [markdown(verdict_rows(evaluation)), markdown(overlap_rows(evaluation))]
    if len(rows := single_rows(evaluation)) > 1:
        parts.append(markdown(rows))
    for kind, metrics in (("Masks", measured.total.mask), ("Boxes", measured.total.box)):
        if protocol != "lvis":
            parts += [f"{kind}, COCO:", "```\n" + "\n".join(coco_lines(metrics)) + "\n```"]
    if protocol == "lvis":
        parts.append(markdown(lvis_rows(evaluation)))
    for key, what in SIDES.items():
        if names := getattr(evaluation, key):
            more = f", … ({len(names)} in all, see evaluation.json)" if len(names) > NAMES_SHOWN else ""
            parts.append(f"{what[0].upper()}{what[1:]}: {', '.join(names[:NAMES_SHOWN])}{more}.")
    mean = fmean(evaluation.image_scores) if evaluation.image_scores else None
    parts += [
        "## Images",
        f"An image's score is the sum of its matched pairs' IoU by matched + (misses + extras) / 2: its panoptic "
        f"quality. The mean is {number(mean)}.",
        "![How many images have which score](histogram.png)",
        "The worst first; the truth is cyan, what was accepted magenta.",
    ]
    for worst, picture in zip(evaluation.worst, pictures, strict=False):
        counts = worst.measures
        parts.append(
            f"**{worst.image_id}**: {number(counts.score)}; {counts.matched} matched, {counts.misses} missed, "
            f"{counts.extras} extra"
        )
        parts.append(f"![{worst.image_id}]({picture})" if picture else "(the image is not there any more)")
    return "\n\n".join(parts) + "\n"


def _histogram(evaluation: Evaluation) -> bytes:
    figure = Figure(figsize=(6, 3), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(np.asarray(evaluation.image_scores), bins=BINS, range=(0, 1), color="#3b6fb6", edgecolor="white")
    axes.set_xlabel("image score (panoptic quality)")
    axes.set_ylabel("images")
    axes.set_xlim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _picture(evaluation: Evaluation, worst: WorstImage, read: Callable[[str, str], DecodedImage]) -> bytes | None:
    """A JPEG of an image with both outlines; None if the image cannot be read."""
    cv2 = opencv()
    with suppress(ImageError, OSError):
        pixels = read(worst.image_id, worst.digest).pixels
        height, width = pixels.shape[:2]
        scale = min(1.0, PICTURE_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels.copy()
        labels = []
        for instances, colour, thickness in ((worst.true, TRUE_COLOUR, 4), (worst.found, FOUND_COLOUR, 2)):
            for instance in instances:
                if instance.rle["size"] != [height, width]:
                    return None  # the image is another one now
                cv2.drawContours(canvas, _contours(instance.rle, scale), -1, colour, thickness, cv2.LINE_AA)
                x1, y1, _, y2 = rle_box_xyxy(instance.rle)
                name = evaluation.class_names[instance.class_id]
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
    return None


def _contours(rle: Rle, scale: float) -> list[Any]:
    mask = np.ascontiguousarray(rle_to_mask(rle)).view(np.uint8)
    cv2 = opencv()
    contours, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [np.round((contour + 0.5) * scale - 0.5).astype(np.int32) for contour in contours]
