"""A small YOLO with random weights, as Ultralytics saves it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def with_random_weights(yolo: Any) -> Any:
    """Batch norms vary, so that scores of boxes differ; most weights stay as they are made, which is random."""
    import torch

    for module in yolo.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
    for similarity in getattr(yolo.model.model[-1], "cv4", ()):  # of boxes and texts, where scores come from that
        torch.nn.init.constant_(similarity.bias, -2.0)
        torch.nn.init.constant_(similarity.logit_scale, 2.0)
    return yolo


def write_yolo(file: Path, names: Sequence[str]) -> Path:
    """Write a YOLOv8n with 80 classes, the same every time. ``names`` are the first of these, and the likely ones."""
    import torch
    from ultralytics import YOLO

    with torch.random.fork_rng():
        torch.manual_seed(5)
        yolo = with_random_weights(YOLO("yolov8n.yaml"))
        for branch in yolo.model.model[-1].cv3:
            torch.nn.init.normal_(branch[-1].weight, std=0.3)
            torch.nn.init.constant_(branch[-1].bias, -4.0)
            torch.nn.init.zeros_(branch[-1].bias[: len(names)])
    yolo.model.names = {index: names[index] if index < len(names) else f"thing {index}" for index in range(80)}
    yolo.save(file)
    return file
