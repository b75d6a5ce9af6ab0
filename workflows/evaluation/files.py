"""Writes ``OUT/evaluation``: the measures as JSON and Markdown, a histogram, and pictures of the worst images."""

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
from workflows.evaluation.evaluate import Evaluation
from workflows.evaluation.measuring import WORST, WorstImage
from workflows.evaluation.tables import (
    NOT_COMPARED,
    SEMANTIC_NOTE,
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
# Fields that have another name in evaluation.json, whose keys stay those of its first version.
KEYS = {
    "false_negatives": "misses",
    "false_positives": "extras",
    "only_in_ground_truth": "only_true",
    "classes_only_in_ground_truth": "classes_only_true",
}


def write_evaluation(
    folder: AnyPath,
    evaluation: Evaluation,
    read: Callable[[str, str], DecodedImage],
    source: str,
    protocol: str | None,
) -> None:
    """Write an evaluation into ``folder``, in place of an earlier one.

    Args:
        read: reads the image with an id and a content digest, as ``Labeled.image`` does. Images that cannot be read get
            no picture.
        source: path or URI of the ground truth.
        protocol: the benchmark protocol, if any; ``lvis`` adds its table.
    """
    pictures: list[str | None] = []
    for index in range(WORST):
        name = f"worst_{index + 1:02d}.jpg"
        picture = _picture(evaluation, evaluation.worst[index], read) if index < len(evaluation.worst) else None
        if picture is None:
            remove(folder / name)
        else:
            write_bytes(folder / name, picture)
        pictures.append(name if picture else None)
    write_bytes(folder / "histogram.png", _histogram(evaluation))
    text = _markdown(evaluation, pictures, source, protocol)
    write_bytes(folder / "evaluation.md", text.encode())
    content = to_json(evaluation, pictures, source, protocol)
    write_bytes(folder / "evaluation.json", (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def _picture(evaluation: Evaluation, worst: WorstImage, read: Callable[[str, str], DecodedImage]) -> bytes | None:
    """A JPEG; None if the image cannot be read, or its content has changed."""
    with suppress(ImageError, OSError):
        pixels = read(worst.image_id, worst.digest).pixels
        return comparison(pixels, worst.true, worst.accepted, evaluation.class_names)
    return None


def to_json(
    evaluation: Evaluation, pictures: list[str | None], source: str = "", protocol: str | None = None
) -> dict[str, Any]:
    """The content of ``evaluation.json``. Measures are in [0, 1], or None where they are undefined."""
    config, measured = evaluation.config, evaluation.measured
    scores = np.asarray(evaluation.image_scores)
    counts, edges = np.histogram(scores, bins=BINS, range=(0, 1))
    return {
        "version": VERSIONS["evaluation.json"],
        "truth": source,
        "protocol": protocol,
        "settings": {
            **asdict(config.measures),
            "class_map": dict(config.class_map),
            "every_class": config.every_class,
            "by_hand": config.by_hand,
            "include_review": evaluation.include_review,
            "quality": evaluation.quality.to_dict(),
        },
        "labels": evaluation.labels,
        "decided": evaluation.decided,
        "semantic_truth": evaluation.semantic,
        "ground_truth_notes": list(evaluation.ground_truth_notes),
        "images": evaluation.images,
        "not_compared": _with_keys({name: getattr(evaluation, name) for name in NOT_COMPARED}),
        "all": _with_keys(asdict(measured.total)),
        "classes": [_with_keys(asdict(each)) for each in measured.classes],
        "single_object": {rule: asdict(each) for rule, each in measured.single.items()},
        **({"lvis": lvis_metrics(evaluation)} if protocol == "lvis" else {}),
        "image_score": {
            "mean": float(scores.mean()) if scores.size else None,
            "histogram": {"edges": edges.round(3).tolist(), "counts": counts.tolist()},
        },
        "worst": [
            {"image_id": each.image_id, **_with_keys(asdict(each.measures)), "picture": picture}
            for each, picture in zip(evaluation.worst, pictures, strict=False)
        ],
    }


def _with_keys(values: dict[str, Any]) -> dict[str, Any]:
    return {KEYS.get(name, name): value for name, value in values.items()}


def _markdown(evaluation: Evaluation, pictures: list[str | None], source: str, protocol: str | None) -> str:
    config, measured = evaluation.config.measures, evaluation.measured
    parts = [
        f"# Labels against {source}",
        f"{evaluation.images} images. An accepted instance matches an object if their mask IoU is {config.iou:g} or "
        "more; precision, recall, F1, FN (false negatives) and FP (false positives) count these matches. IoU and "
        "boundary (IoU of the inner boundaries, Cheng et al. 2021) are means over the matched pairs. Semantic is the "
        f"IoU of the class's pixels. AP is that of COCO, over all candidates, ranked by {config.rank_by} score.",
    ]
    if config.band_width:
        parts.append(
            f"Tolerant: IoU in which pixels within {config.band_width} pixels of the true contour count "
            f"{config.band_weight:g}."
        )
    if evaluation.semantic:
        parts.append(SEMANTIC_NOTE)
    parts += [f"Note: {note}." for note in notes(evaluation)]
    gate = ", ".join(f"{name} {value}" for name, value in evaluation.quality.to_dict().items() if value)
    parts.append(f"The quality gate: {gate}.")
    parts += [markdown(verdict_rows(evaluation)), markdown(overlap_rows(evaluation))]
    if len(rows := single_rows(evaluation)) > 1:
        parts.append(markdown(rows))
    for kind, metrics in (("Masks", measured.total.mask), ("Boxes", measured.total.box)):
        if protocol != "lvis":
            parts += [f"{kind}, COCO:", "```\n" + "\n".join(coco_lines(metrics)) + "\n```"]
    if protocol == "lvis":
        parts.append(markdown(lvis_rows(evaluation)))
    for key, what in NOT_COMPARED.items():
        if names := getattr(evaluation, key):
            more = f", … ({len(names)} in all, see evaluation.json)" if len(names) > NAMES_SHOWN else ""
            parts.append(f"{what[0].upper()}{what[1:]}: {', '.join(names[:NAMES_SHOWN])}{more}.")
    mean = fmean(evaluation.image_scores) if evaluation.image_scores else None
    parts += [
        "## Images",
        "An image's score is its panoptic quality: the sum of IoU over its matched pairs, divided by "
        f"matched + (false negatives + false positives) / 2. The mean over images is {number(mean)}.",
        "![Histogram of image scores](histogram.png)",
        "The images with the lowest scores, worst first. Ground truth is cyan, accepted instances are magenta.",
    ]
    for worst, picture in zip(evaluation.worst, pictures, strict=False):
        counts = worst.measures
        parts.append(
            f"**{worst.image_id}**: {number(counts.score)}; {counts.matched} matched, {counts.false_negatives} false "
            f"negatives, {counts.false_positives} false positives"
        )
        parts.append(f"![{worst.image_id}]({picture})" if picture else "(the image is no longer available)")
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
