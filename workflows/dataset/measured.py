"""What ``labeler evaluate`` measured of the labels in a folder, if these are still the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from labeler.errors import FormatError, RunError
from labeler.files.credentials import without_secrets
from labeler.migrations import read_json
from labeler.sizes import finite_number

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

COCO_METRICS = {"mask AP": ("mask", "ap"), "mask AP50": ("mask", "ap50"), "box AP": ("box", "ap")}
COUNTED = ("precision", "recall", "f1")


@dataclass(frozen=True)
class MeasuredLabels:
    """How good labels are.

    Attributes:
        metrics: in [0, 1], by name; without those that are undefined.
        against: what they were measured against, in words.
    """

    metrics: Mapping[str, float]
    against: str


def measured_labels(evaluation: AnyPath, labels: str) -> MeasuredLabels | None:
    """What an ``evaluation.json`` says; None if there is none, it cannot be used, or it is of other labels.

    Args:
        labels: ``JudgedShards.digest`` of the labels of now.
    """
    try:
        content = read_json("evaluation.json", evaluation)
        return _measured(content) if content.get("labels") == labels else None
    except (OSError, FormatError, RunError, KeyError, TypeError, ValueError, AttributeError):
        return None


def _measured(content: dict[str, Any]) -> MeasuredLabels:
    """Raises KeyError, TypeError, ValueError or AttributeError if a part is missing or damaged."""
    total, settings = content["all"], content["settings"]
    at_iou = f"at IoU {finite_number(settings['iou'], 'iou'):g}"
    values = {name: total[kind][metric] for name, (kind, metric) in COCO_METRICS.items()}
    values |= {f"{name.replace('f1', 'F1')} {at_iou}": total[name] for name in COUNTED}
    metrics = {name: finite_number(value, name) for name, value in values.items() if value is not None}
    truth = without_secrets(str(content["truth"])).replace("\\", "/")
    models_alone = "" if settings["by_hand"] else ", without what people decided"
    images = int(finite_number(content["images"], "images"))
    return MeasuredLabels(metrics, f"{PurePosixPath(truth).name}, on {images:,} images{models_alone}")
