"""Weights in bf16 against autocast with weights in fp32, and results across batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labeler.demo.scenes import PAIRS, class_name, make_scene, scene_rng
from labeler.geometry.masks import rle_to_mask
from labeler.models import precision
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.loading import load_detector, load_grounded_sam, load_sam3, load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts
from labeler.records import Instance
from ontologies import ClassSpec, Ontology
from tests.support.tiny_models import DETECTORS, SEGMENTERS, make_boxes, make_image

Checkpoint = Callable[[str], Path]
PROMPTS = ("red cat", "dog")


@contextmanager
def weights_in_fp32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(precision, "CAST", ())
        yield


def halved(model: torch.nn.Module) -> float:
    """The share of weights that are in bf16."""
    sizes = [(parameter.numel(), parameter.dtype == torch.bfloat16) for parameter in model.parameters()]
    return sum(size for size, low in sizes if low) / sum(size for size, _ in sizes)


@pytest.mark.parametrize("family", [*DETECTORS, *SEGMENTERS, "sam3"])
def test_weights_in_bf16_give_the_bits_of_autocast(
    family: str, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(checkpoint(family))
    config = ModelConfig(folder, folder, device="cpu", precision="bf16", floor=1e-12)
    image = make_image(60, 90)

    def found(load: Callable[[ModelConfig], Any]) -> tuple[Any, list[Any]]:
        loaded = load(config)
        if family in SEGMENTERS:
            masks = loaded.segment([image], [SegmentPrompts.of_boxes(make_boxes(3, 60, 90))])[0]
            return loaded.model, [[mask.mask_score, mask.stability, mask.rle["counts"]] for mask in masks]
        detections = loaded.detect([image], [PROMPTS])[0]
        return loaded.model, [detections.boxes_xyxy.tolist(), detections.scores.tolist()]

    load = load_segmenter if family in SEGMENTERS else load_sam3 if family == "sam3" else load_detector
    low_model, low = found(load)
    with weights_in_fp32(monkeypatch):
        full_model, full = found(load)
    assert halved(full_model) == 0
    assert halved(low_model) > 0.5
    assert low == full


# --- batches --------------------------------------------------------------------------------------------------------


def requests(count: int = 6) -> list[LabelRequest]:
    ontology = Ontology(tuple(ClassSpec(class_name(pair)) for pair in PAIRS[::5]))
    return [
        LabelRequest("", make_scene(scene_rng(9, index), pairs=PAIRS[::5]).image, ontology) for index in range(count)
    ]


def demo(**options: Any) -> ModelConfig:
    return ModelConfig("embedded:detector", "embedded:segmenter", device="cpu", **options)


def test_batches_of_any_size_give_the_same_bytes_on_a_cpu() -> None:
    every = requests()
    ones = GroundedSamKind().load(demo(batch_size=1))
    fours = GroundedSamKind().load(demo(batch_size=4))
    together = fours.label(every[:4]) + fours.label(every[4:])
    assert repr([ones.label([request])[0] for request in every]) == repr(together)
    assert sum(map(len, together)) > 8


@pytest.mark.parametrize(("dtype", "score", "iou", "share"), [("fp32", 1e-5, 0.999, 1.0), ("bf16", 0.1, 0.9, 0.85)])
def test_batches_of_any_size_agree_within_the_tolerance(dtype: str, score: float, iou: float, share: float) -> None:
    """As on a GPU, all images of a batch go through the models together. The docs state these tolerances."""
    every = requests()
    alone = load_grounded_sam(demo(batch_size=1, precision=dtype)).label(every)
    together = load_grounded_sam(demo(batch_size=4, precision=dtype)).label(every)
    agree = [
        any(is_near(instance, other, score, iou) for other in others)
        for ours, theirs in ((alone, together), (together, alone))
        for instances, others in zip(ours, theirs, strict=True)
        for instance in instances
        if instance.score > 0.3
    ]
    assert len(agree) > 16
    assert np.mean(agree) >= share


def is_near(instance: Instance, other: Instance, score: float, iou: float) -> bool:
    if instance.class_id != other.class_id or abs(instance.score - other.score) > score:
        return False
    mask, its = rle_to_mask(instance.rle), rle_to_mask(other.rle)
    return bool((mask & its).sum() >= iou * (mask | its).sum())
