"""Masks, compared with the same weights run by the processors and models of transformers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskGeneration, AutoProcessor, Sam3TrackerProcessor

from labeler.geometry.masks import clean_mask, mask_to_rle, rle_to_mask
from labeler.models.config import ModelConfig
from labeler.models.loading import load_segmenter
from labeler.models.segmenters import encoding, sam, upscaling
from labeler.models.segmenters.encoding import MaskChunk, encode, stability, windows
from labeler.models.segmenters.segmenter import SegmentedMask, Segmenter, SegmentPrompts
from tests.support import ROOT
from tests.support.tiny_models import SEGMENTERS, make_boxes, make_image

Checkpoint = Callable[[str], Path]
Boxes = NDArray[np.float32]
SIZES = [(60, 90), (90, 60), (64, 64), (33, 120), (130, 40)]
# Rounding in the arithmetic of two models; a misplaced box or padding changes scores by 0.01 and more.
SCORE = dict(rtol=1e-4, atol=2e-5)
EMPTY = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def load(checkpoint: Checkpoint) -> Callable[..., Segmenter]:
    kept: dict[tuple[Any, ...], Segmenter] = {}

    def load_once(family: str, **options: Any) -> Segmenter:
        if family.startswith("edgetam"):
            pytest.importorskip("timm")
        key = (family, *sorted(options.items()))
        if key not in kept:
            config = ModelConfig("embedded:detector", str(checkpoint(family)), device="cpu", clean_share=0)
            kept[key] = load_segmenter(replace(config, **options))
        return kept[key]

    return load_once


@pytest.fixture(scope="module")
def peer(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Any]]:
    """(model, processor), loaded without this project."""
    kept: dict[str, tuple[Any, Any]] = {}

    def load_once(family: str) -> tuple[Any, Any]:
        if family not in kept:
            folder = checkpoint(family)
            if family == "sam3_video":
                folder = with_names_of_the_hub(folder, tmp_path_factory.mktemp("hub"))
            model = AutoModelForMaskGeneration.from_pretrained(folder).eval()
            reader = Sam3TrackerProcessor if family == "sam3_video" else AutoProcessor
            kept[family] = (model, reader.from_pretrained(folder))
        return kept[family]

    return load_once


def with_names_of_the_hub(folder: Path, copy: Path) -> Path:
    """A copy of a ``sam3_video`` whose tracker has its prefix once, as published, and not twice, as saved."""
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    weights = load_file(copy / "model.safetensors")
    assert any(name.startswith("tracker_model.tracker_model.") for name in weights)
    renamed = {name.replace("tracker_model.tracker_model.", "tracker_model."): weights[name] for name in weights}
    save_file(renamed, copy / "model.safetensors", {"format": "pt"})
    return copy


@torch.no_grad()
def by_processor(
    model: Any, processor: Any, image: NDArray[np.uint8], boxes: Boxes, binarize: bool = True
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Masks (n, height, width), bool or logits, and IoU estimates (n,), as in the documentation of transformers."""
    inputs = processor(images=Image.fromarray(image), input_boxes=[boxes.tolist()], return_tensors="pt")
    sizes = [inputs["original_sizes"]]
    if "reshaped_input_sizes" in inputs:
        sizes.append(inputs["reshaped_input_sizes"])
    outputs = model(
        pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"].float(), multimask_output=False
    )
    (masks,) = processor.image_processor.post_process_masks(outputs.pred_masks, *sizes, binarize=binarize)
    return masks[:, 0].numpy(), outputs.iou_scores[0, :, 0].numpy()


def of_boxes(boxes: Sequence[Boxes]) -> list[SegmentPrompts]:
    return [SegmentPrompts.of_boxes(each) for each in boxes]


def dense(masks: list[SegmentedMask]) -> NDArray[np.bool_]:
    return np.stack([rle_to_mask(mask.rle) for mask in masks])


def assert_masks_match(found: NDArray[np.bool_], expected: NDArray[np.bool_]) -> None:
    """Check for an IoU of 0.999; in small masks, rounding may change two pixels."""
    off, union = (found ^ expected).sum((1, 2)), (found | expected).sum((1, 2))
    assert (off <= np.maximum(2, 0.001 * union)).all(), f"{off.tolist()} of {union.tolist()} pixels differ"


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.float64]:
    union = (a | b).sum((1, 2))
    return np.divide((a & b).sum((1, 2)), union, out=np.ones(len(a)), where=union > 0)


def assert_same(found: list[SegmentedMask], alone: list[SegmentedMask]) -> None:
    assert len(found) == len(alone)
    if found:
        np.testing.assert_allclose([m.mask_score for m in found], [m.mask_score for m in alone], **SCORE)
        np.testing.assert_allclose([m.stability for m in found], [m.stability for m in alone], atol=2e-3)
        assert_masks_match(dense(found), dense(alone))


# --- compared with transformers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SEGMENTERS)
def test_masks_and_scores(family: str, load: Callable[..., Segmenter], peer: Callable[[str], tuple[Any, Any]]) -> None:
    images = [make_image(*size, seed) for seed, size in enumerate(SIZES)]
    boxes = [make_boxes(3 + 2 * seed, *size, seed) for seed, size in enumerate(SIZES)]
    together = load(family).segment(images, of_boxes(boxes))
    different = []
    for image, image_boxes, found in zip(images, boxes, together, strict=True):
        masks, scores = by_processor(*peer(family), image, image_boxes)
        assert len(found) == len(image_boxes)
        assert all(tuple(mask.rle["size"]) == image.shape[:2] for mask in found)
        assert [mask.area for mask in found] == dense(found).sum((1, 2)).tolist()
        assert_masks_match(dense(found), masks)
        np.testing.assert_allclose([mask.mask_score for mask in found], scores, **SCORE)
        different += [iou(masks[:1], masks[other : other + 1])[0] for other in range(1, len(masks))]
    assert min(different) < 0.9, "the random weights must tell boxes apart"


@pytest.mark.parametrize("family", SEGMENTERS)
def test_stability_equals_segment_anythings(
    family: str, load: Callable[..., Segmenter], peer: Callable[[str], tuple[Any, Any]]
) -> None:
    """``calculate_stability_score(masks, mask_threshold=0, threshold_offset=1)`` on logits at image size."""
    image, boxes = make_image(90, 61), make_boxes(9, 90, 61)
    (found,) = load(family).segment([image], of_boxes([boxes]))
    logits, _ = by_processor(*peer(family), image, boxes, binarize=False)
    inner, outer = (logits > 1).sum((1, 2)), (logits > -1).sum((1, 2))
    expected = np.divide(inner, outer, out=np.zeros(len(inner)), where=outer > 0)
    assert [mask.stability for mask in found] == pytest.approx(expected.tolist(), abs=2 / outer.max())
    assert all(0 <= mask.stability <= 1 for mask in found)


def test_stability_by_hand() -> None:
    logits = torch.tensor([[[-2.0, -1.0, -0.5, 0.5, 1.0, 1.5, 9.0, 0.0]], [[-2.0] * 8], [[2.0] * 8]])
    # above 1: 1.5 and 9; above -1: six of eight
    assert stability(logits).tolist() == pytest.approx([2 / 6, 0, 1])


# --- batches and chunks do not change results -----------------------------------------------------------------------


@pytest.mark.parametrize("family", SEGMENTERS)
def test_masks_do_not_depend_on_the_batch(family: str, load: Callable[..., Segmenter]) -> None:
    counts = [3, 0, 1, 7, 2, 0, 5]
    sizes = [SIZES[index % len(SIZES)] for index in range(len(counts))]
    images = [make_image(*size, seed) for seed, size in enumerate(sizes)]
    boxes = [make_boxes(n, *size, seed) for seed, (n, size) in enumerate(zip(counts, sizes, strict=True))]
    segmenter = load(family, batch_size=1)
    alone = [
        segmenter.segment([image], of_boxes([image_boxes]))[0] for image, image_boxes in zip(images, boxes, strict=True)
    ]
    for batch_size in (1, 2, 8):
        together = load(family, batch_size=batch_size).segment(images, of_boxes(boxes))
        assert [len(found) for found in together] == counts, f"batch size {batch_size}"
        for found, expected in zip(together, alone, strict=True):
            assert_same(found, expected)


@pytest.mark.parametrize("family", SEGMENTERS)
def test_boxes_are_segmented_one_by_one(family: str, load: Callable[..., Segmenter]) -> None:
    image, boxes = make_image(60, 90), make_boxes(6, 60, 90)
    (together,) = load(family).segment([image], of_boxes([boxes]))
    assert_same(
        together, [load(family).segment([image], of_boxes([boxes[i : i + 1]]))[0][0] for i in range(len(boxes))]
    )
    (turned,) = load(family).segment([image], of_boxes([boxes[::-1]]))  # a view with negative strides
    assert_same(turned, together[::-1])


@pytest.mark.parametrize("family", SEGMENTERS)
def test_no_boxes(family: str, load: Callable[..., Segmenter]) -> None:
    assert load(family).segment([], []) == []
    assert load(family).segment([make_image(20, 30)] * 3, of_boxes([EMPTY] * 3)) == [[], [], []]


@pytest.mark.parametrize(("boxes_per_call", "pixels_per_chunk"), [(64, 1), (4, 10**9), (5, 2 * 60 * 90), (1, 1)])
@pytest.mark.parametrize("family", ["sam", "sam_hq", "sam2"])
def test_chunks_change_nothing(
    family: str,
    boxes_per_call: int,
    pixels_per_chunk: int,
    load: Callable[..., Segmenter],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, boxes = [make_image(60, 90), make_image(20, 30, 1)], [make_boxes(13, 60, 90), make_boxes(3, 20, 30)]
    monkeypatch.setattr(sam, "PROMPTS_PER_CALL", 10**6)
    monkeypatch.setattr(upscaling, "PIXELS_PER_CHUNK", 10**9)
    whole = load(family).segment(images, of_boxes(boxes))
    monkeypatch.setattr(sam, "PROMPTS_PER_CALL", boxes_per_call)
    monkeypatch.setattr(upscaling, "PIXELS_PER_CHUNK", pixels_per_chunk)
    for found, expected in zip(load(family).segment(images, of_boxes(boxes)), whole, strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("clean_share", [0.0, 0.05])
def test_cleaning(clean_share: float, load: Callable[..., Segmenter], peer: Callable[[str], tuple[Any, Any]]) -> None:
    image, boxes = make_image(60, 90), make_boxes(20, 60, 90)
    (found,) = load("sam_hq", clean_share=clean_share).segment([image], of_boxes([boxes]))
    raw, _ = by_processor(*peer("sam_hq"), image, boxes)
    cleaned = np.stack([clean_mask(mask, 0.05) for mask in raw])
    assert (cleaned != raw).any(), "there must be something to clean"
    expected = cleaned if clean_share else raw
    assert_masks_match(dense(found), expected)
    assert [mask.area for mask in found] == dense(found).sum((1, 2)).tolist()


@pytest.mark.parametrize("family", SEGMENTERS)
def test_lower_precision_stays_near(family: str, load: Callable[..., Segmenter]) -> None:
    image, boxes = make_image(60, 90), make_boxes(6, 60, 90)
    (full,) = load(family).segment([image], of_boxes([boxes]))
    (half,) = load(family, precision="bf16").segment([image], of_boxes([boxes]))
    scores = np.array([[mask.mask_score for mask in masks] for masks in (full, half)])
    assert not np.array_equal(*scores), "bf16 was not used"
    # Random logits are close to the threshold, so masks differ more than with a trained model.
    assert np.median(np.abs(scores[0] - scores[1])) < 0.1
    assert np.median(iou(dense(full), dense(half))) > 0.6


# --- memory ---------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
sys.path.insert(0, sys.argv[2])
import torch
from tests.support.tiny_models import make_boxes, make_image
from labeler.models.config import ModelConfig
from labeler.models.loading import load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts

torch.set_num_threads(1)
segmenter = load_segmenter(ModelConfig("embedded:detector", sys.argv[1], device="cpu", clean_share=0))
image = make_image(1400, 2100)
peaks = []
for count in (20, 80):
    segmenter.segment([image], [SegmentPrompts.of_boxes(make_boxes(count, 1400, 2100))])
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""


def test_memory_does_not_grow_with_the_boxes(checkpoint: Checkpoint) -> None:
    """60 more masks of 3 million pixels each would take 180 MB as bool and 700 MB as logits."""
    command = [sys.executable, "-c", MEASURE, str(checkpoint("sam")), str(ROOT)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    unit = 1 if sys.platform == "darwin" else 1024
    few, many = (int(peak) * unit / 1e6 for peak in answer.split())
    assert many - few < 100, f"{few:.0f} MB at 20 boxes, {many:.0f} MB at 80"


def test_masks_do_not_pile_up_before_a_slow_encoder(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = load("sam")
    waiting: set[int] = set()
    most = 0
    decode = segmenter._decode

    def watched(*inputs: Any) -> Iterator[tuple[int, MaskChunk]]:
        nonlocal most
        for index, chunk in decode(*inputs):
            waiting.add(id(chunk))
            most = max(most, len(waiting))
            yield index, chunk

    def slow(chunk: MaskChunk, clean_share: float) -> list[SegmentedMask]:
        time.sleep(0.01)
        waiting.discard(id(chunk))
        return encode(chunk, clean_share)

    monkeypatch.setattr(segmenter, "_decode", watched)
    monkeypatch.setattr(encoding, "encode", slow)
    monkeypatch.setattr(encoding, "WAITING_BYTES", 0)
    monkeypatch.setattr(upscaling, "PIXELS_PER_CHUNK", 1)
    segmenter.segment([make_image(60, 90)] * 2, of_boxes([make_boxes(30, 60, 90)] * 2))
    assert 1 <= most <= 2  # one that is encoded, and one that is submitted


def test_masks_become_rle() -> None:
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    found = windows(torch.from_numpy(mask)[None, :, 1:], np.array([0]), np.array([1]))
    assert encode(MaskChunk([0], found, [0.5], [0.25], (5, 7)), 0.0) == [SegmentedMask(mask_to_rle(mask), 8, 0.5, 0.25)]
