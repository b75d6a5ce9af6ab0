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

from labeler.errors import ImageError
from labeler.files.images import DecodedImage
from labeler.files.storage import remove, write_bytes
from labeler.migrations import VERSIONS
from workflows.drawing.comparison import comparison
from workflows.evaluation.evaluate import WORST, Evaluation, WorstImage
from workflows.evaluation.tables import (
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
    from labeler.files.storage import AnyPath

BINS = 20
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


def _picture(evaluation: Evaluation, worst: WorstImage, read: Callable[[str, str], DecodedImage]) -> bytes | None:
    """None if the image cannot be read, or is another one now."""
    with suppress(ImageError, OSError):
        pixels = read(worst.image_id, worst.digest).pixels
        return comparison(pixels, worst.true, worst.found, evaluation.class_names)
    return None


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
