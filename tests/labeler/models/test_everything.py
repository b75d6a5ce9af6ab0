"""Segment everything, compared with the pipeline ``mask-generation`` of transformers on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForMaskGeneration, AutoProcessor, pipeline

from labeler.demo.scenes import make_scene, scene_rng
from labeler.geometry.masks import clean_mask, rle_to_mask
from labeler.models.config import ModelConfig
from labeler.models.identity import WEIGHTS
from labeler.models.kinds.everything import EverythingKind
from labeler.models.labelers.everything import crops, point_grid
from labeler.models.labelers.labeler import LabelRequest
from labeler.records import Instance
from ontologies import ClassSpec, Ontology
from tests.support.tiny_models import make_image

Checkpoint = Callable[[str], Path]
OBJECT = Ontology((ClassSpec("object"),))


def found_in(image: NDArray[np.uint8], source: str, kind: EverythingKind, clean_share: float = 0) -> list[Instance]:
    config = ModelConfig("", source, device="cpu", clean_share=clean_share)
    (instances,) = kind.load(config).label([LabelRequest("", image, OBJECT)])
    return instances


def by_pipeline(
    image: NDArray[np.uint8], folder: Path, kind: EverythingKind
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Masks (n, height, width) and their scores (n,)."""
    generate: Any = pipeline(
        "mask-generation",
        model=AutoModelForMaskGeneration.from_pretrained(folder, dtype=torch.float32),
        image_processor=AutoImageProcessor.from_pretrained(folder),
        device="cpu",
    )
    answer = generate(
        Image.fromarray(image),
        points_per_crop=kind.points_per_side,
        crops_n_layers=kind.crop_layers,
        pred_iou_thresh=kind.point_mask_score,
        stability_score_thresh=kind.point_stability,
        crops_nms_thresh=kind.point_box_iou,
    )
    masks, scores = np.stack([np.asarray(mask) for mask in answer["masks"]]), np.asarray(answer["scores"])
    seen = masks.any((1, 2))
    return masks[seen], scores[seen]


def assert_same(found: list[Instance], masks: NDArray[np.bool_], scores: NDArray[np.float32]) -> None:
    assert len(found) == len(scores) > 1
    np.testing.assert_allclose([each.mask_score for each in found], np.clip(scores, 0, 1), atol=1e-4)
    for each, mask in zip(found, masks, strict=True):
        mine = rle_to_mask(each.rle)
        assert (mine ^ mask).sum() <= max(2, 0.001 * (mine | mask).sum())
        assert each.area == mine.sum()
        assert (each.score, each.class_id, each.prompt) == (1.0, 0, "object")


# The pipeline places the points of SAM 2, which stretches images, as if it kept their ratio: only a square is right.
@pytest.mark.parametrize(
    ("family", "size", "stability", "box_iou"),
    [
        ("sam", (60, 90), 0.0, 0.97),
        ("sam", (130, 100), 0.0, 0.97),
        ("sam_hq", (90, 61), 0.05, 1.0),
        ("sam2", (96, 96), 0.05, 1.0),
    ],
)
def test_masks_are_those_of_the_pipeline(
    family: str, size: tuple[int, int], stability: float, box_iou: float, checkpoint: Checkpoint
) -> None:
    kind = EverythingKind(5, 0, 0.0, stability, box_iou)
    image = make_image(*size, 3)
    assert_same(found_in(image, str(checkpoint(family)), kind), *by_pipeline(image, checkpoint(family), kind))


@pytest.mark.parametrize("kind", [EverythingKind(6, 0, 0.3, 0.3, 0.9), EverythingKind(3, 1, 0.1, 0.0)])
def test_masks_of_a_scene_are_those_of_the_pipeline(kind: EverythingKind) -> None:
    scene = make_scene(scene_rng(5, 1), 224)
    masks, scores = by_pipeline(scene.image, WEIGHTS / "segmenter", kind)
    found = found_in(scene.image, "embedded:segmenter", kind)
    assert_same(found, masks, scores)


def test_masks_are_cleaned_last(checkpoint: Checkpoint) -> None:
    kind, image, source = EverythingKind(4, 0, 0.0, 0.0, 0.97), make_image(60, 90, 3), str(checkpoint("sam"))
    raw = [rle_to_mask(each.rle) for each in found_in(image, source, kind)]
    cleaned = [rle_to_mask(each.rle) for each in found_in(image, source, kind, clean_share=0.05)]
    assert any((clean_mask(mask, 0.05) != mask).any() for mask in raw), "there must be something to clean"
    assert all((clean_mask(mask, 0.05) == each).all() for mask, each in zip(raw, cleaned, strict=True))


@torch.no_grad()
def test_the_grid_covers_an_image_that_sam_2_stretches(checkpoint: Checkpoint) -> None:
    """Compared with the processor, which scales points as the image is scaled."""
    image, folder = make_image(60, 90, 3), checkpoint("sam2")
    found = found_in(image, str(folder), EverythingKind(4, 0, 0.0, 0.0, point_box_iou=1.0))
    grid = [[[(column + 0.5) / 4 * 90, (row + 0.5) / 4 * 60]] for row in range(4) for column in range(4)]
    processor = AutoProcessor.from_pretrained(folder)
    inputs = processor(
        images=Image.fromarray(image), input_points=[grid], input_labels=[[[1]] * 16], return_tensors="pt"
    )
    sizes = inputs.pop("original_sizes")
    outputs = AutoModelForMaskGeneration.from_pretrained(folder)(**inputs)
    (masks,) = processor.post_process_masks(outputs.pred_masks, sizes)
    scores = outputs.iou_scores[0][masks.any(-1).any(-1)]
    expected = scores.clamp(0, 1).sort(descending=True).values.numpy()
    assert len(np.unique(expected.round(4))) > 8
    np.testing.assert_allclose([each.mask_score for each in found], expected, atol=1e-4)


def test_the_best_masks_are_kept(checkpoint: Checkpoint) -> None:
    kind = EverythingKind(6, point_mask_score=0.0, point_stability=0.0)
    image, source = make_image(60, 90), str(checkpoint("sam"))
    everything = found_in(image, source, kind)
    (few,) = kind.load(ModelConfig("", source, device="cpu", clean_share=0, max_instances=3)).label(
        [LabelRequest("", image, OBJECT)]
    )
    assert few == everything[:3]
    scores = [each.mask_score for each in everything]
    assert scores == sorted(scores, reverse=True)


def test_grid_by_hand() -> None:
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_crops_by_hand() -> None:
    # overlap = int(512 / 1500 * 100) = 34; width (34 + 200) / 2 = 117, height (34 + 100) / 2 = 67
    assert list(crops(100, 200, 1)) == [
        (0, 0, 200, 100), (0, 0, 117, 67), (0, 33, 117, 100), (83, 0, 200, 67), (83, 33, 200, 100),
    ]  # fmt: skip


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (2, 300)])
def test_crops_of_tiny_images_have_pixels(size: tuple[int, int]) -> None:
    for left, top, right, bottom in crops(*size, 3):
        assert 0 <= left < right <= size[1]
        assert 0 <= top < bottom <= size[0]
