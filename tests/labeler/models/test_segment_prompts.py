"""Points, boxes and rough masks, compared with the processors and models of transformers on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional
from transformers import AutoModelForMaskGeneration, AutoProcessor

from labeler.errors import UsageError
from labeler.geometry.masks import mask_to_rle, rle_to_mask
from labeler.models.config import ModelConfig
from labeler.models.loading import load_segmenter
from labeler.models.segmenters.sam import PROMPTS_PER_CALL, SamSegmenter
from labeler.models.segmenters.segmenter import SegmentedMask, SegmentPrompts
from tests.support.tiny_models import make_boxes, make_image

Checkpoint = Callable[[str], Path]
Loaded = tuple[SamSegmenter, Any, Any]
SIZE = (60, 90)
SCORE = dict(rtol=1e-4, atol=2e-5)


@pytest.fixture(scope="module", params=["sam", "sam_hq", "sam2", "edgetam"])
def loaded(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Loaded:
    """(segmenter, model and processor of transformers) on the same weights."""
    if request.param == "edgetam":
        pytest.importorskip("timm")
    folder = checkpoint(request.param)
    segmenter = load_segmenter(ModelConfig("", str(folder), device="cpu", clean_share=0))
    assert isinstance(segmenter, SamSegmenter)
    return segmenter, AutoModelForMaskGeneration.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)


def points(count: int, per_prompt: int, size: tuple[int, int] = SIZE) -> NDArray[np.float32]:
    random = np.random.default_rng(4).uniform(0, 1, (count, per_prompt, 2))
    return (random * [size[1] - 1, size[0] - 1]).astype(np.float32)


@torch.no_grad()
def by_processor(
    model: Any, processor: Any, image: NDArray[np.uint8], prompts: SegmentPrompts, **inputs: Any
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """The best mask (n, height, width) and its IoU estimate (n,) of each prompt."""
    given: dict[str, Any] = {}
    if prompts.boxes_xyxy is not None:
        given["input_boxes"] = [prompts.boxes_xyxy.tolist()]
    if prompts.points_xy is not None and prompts.point_labels is not None:
        given |= {"input_points": [prompts.points_xy.tolist()], "input_labels": [prompts.point_labels.tolist()]}
    made = processor(images=Image.fromarray(image), return_tensors="pt", **given)
    sizes = [made.pop(name) for name in ("original_sizes", "reshaped_input_sizes") if name in made]
    made = {name: value.float() if name != "input_labels" else value for name, value in made.items()}
    outputs = model(**made, **inputs, multimask_output=prompts.multimask)
    (masks,) = processor.image_processor.post_process_masks(outputs.pred_masks, *sizes)
    scores = outputs.iou_scores[0]
    rows, best = torch.arange(len(scores)), scores.argmax(1)
    return masks[rows, best].numpy(), scores[rows, best].numpy()


def assert_same(found: list[SegmentedMask], masks: NDArray[np.bool_], scores: NDArray[np.float32]) -> None:
    np.testing.assert_allclose([mask.mask_score for mask in found], scores, **SCORE)
    mine = np.stack([rle_to_mask(mask.rle) for mask in found])
    off, union = (mine ^ masks).sum((1, 2)), (mine | masks).sum((1, 2))
    assert (off <= np.maximum(2, 0.001 * union)).all(), f"{off.tolist()} of {union.tolist()} pixels differ"


BOXES = make_boxes(3, *SIZE)
LABELS = np.array([[1, 0, 1], [1, 1, 0], [1, 0, -1]])
CASES = {
    "boxes": SegmentPrompts(boxes_xyxy=BOXES),
    "points": SegmentPrompts(points_xy=points(3, 1), point_labels=np.ones((3, 1), int)),
    "one of three masks": SegmentPrompts(points_xy=points(3, 1), point_labels=np.ones((3, 1), int), multimask=True),
    "several points": SegmentPrompts(points_xy=points(3, 3), point_labels=LABELS),
    "boxes and points": SegmentPrompts(BOXES, points(3, 3), LABELS),
    "boxes and points, one of three": SegmentPrompts(BOXES, points(3, 2), LABELS[:, :2], multimask=True),
}


@pytest.mark.parametrize("case", CASES)
def test_masks_and_scores(case: str, loaded: Loaded) -> None:
    segmenter, *peer = loaded
    image, prompts = make_image(*SIZE), CASES[case]
    expected = by_processor(*peer, image, prompts)
    (found, none) = segmenter.segment([image, image], [prompts, SegmentPrompts()])
    assert none == []
    assert_same(found, *expected)
    assert segmenter.decode(segmenter.encode(image), prompts) == found


def rough_masks(height: int, width: int) -> NDArray[np.bool_]:
    masks = np.zeros((3, height, width), bool)
    masks[0, 2:15, 5:20] = masks[1, :, : width // 2] = masks[2, height // 3 :] = True
    return masks


@pytest.mark.parametrize("case", [None, "points", "boxes and points", "one of three masks"])
def test_rough_masks(case: str | None, loaded: Loaded) -> None:
    """An image as large as the mask input, for which the frame of the mask can be filled by hand.

    SAM keeps its ratio and leaves the bottom empty, as its processor does with maps of labels; SAM 2 stretches masks,
    which its model does by itself.
    """
    segmenter, model, processor = loaded
    side = 4 * model.prompt_encoder.image_embedding_size[0]
    image, masks = make_image(24, side), rough_masks(24, side)
    if case is None:
        prompts = SegmentPrompts(masks=masks)
    else:
        base, fits = CASES[case], np.float32(min(side / 90, 24 / 60))
        prompts = SegmentPrompts(
            None if base.boxes_xyxy is None else base.boxes_xyxy * fits,
            None if base.points_xy is None else base.points_xy * fits,
            base.point_labels,
            masks,
            base.multimask,
        )
    logits = torch.from_numpy(np.where(masks, 10.0, -10.0).astype(np.float32))[:, None]
    if "pad_size" in processor.image_processor.to_dict() and model.config.model_type in ("sam", "sam_hq"):
        logits = functional.pad(logits, (0, 0, 0, side - 24), value=-10)
    (found,) = segmenter.segment([image], [prompts])
    alone = [
        by_processor(model, processor, image, prompts[row : row + 1], input_masks=logits[row : row + 1])
        for row in range(3)
    ]
    assert_same(found, np.concatenate([one for one, _ in alone]), np.concatenate([score for _, score in alone]))
    rles = SegmentPrompts(
        prompts.boxes_xyxy,
        prompts.points_xy,
        prompts.point_labels,
        [mask_to_rle(each) for each in masks],
        prompts.multimask,
    )
    assert segmenter.segment([image], [rles]) == [found]
    different, _ = by_processor(model, processor, image, prompts[:1], input_masks=logits[1:2])
    assert (different ^ alone[0][0]).sum() > 3, "the random weights must heed the mask"


def test_prompts_are_segmented_one_by_one(loaded: Loaded) -> None:
    segmenter = loaded[0]
    image, prompts = make_image(*SIZE), CASES["boxes and points"]
    (together,) = segmenter.segment([image], [prompts])
    for row, mask in enumerate(together):
        ((alone,),) = segmenter.segment([image], [prompts[row : row + 1]])
        assert alone.mask_score == pytest.approx(mask.mask_score, abs=1e-4)
        assert (rle_to_mask(alone.rle) ^ rle_to_mask(mask.rle)).sum() <= 2


def test_more_prompts_than_one_call_takes(checkpoint: Checkpoint) -> None:
    segmenter = load_segmenter(ModelConfig("", str(checkpoint("sam")), device="cpu", clean_share=0))
    count = PROMPTS_PER_CALL + 3
    prompts = SegmentPrompts(points_xy=points(count, 1), point_labels=np.ones((count, 1), int))
    image = make_image(*SIZE)
    (found,) = segmenter.segment([image], [prompts])
    assert len(found) == count
    ((last,),) = segmenter.segment([image], [prompts[-1:]])
    assert last.mask_score == pytest.approx(found[-1].mask_score, abs=1e-4)


OUTSIDE = np.full((1, 1, 2), (95, 5), np.float32)
INSIDE = np.full((1, 1, 2), 5, np.float32)
ONE = np.ones((1, 1), int)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (SegmentPrompts(points_xy=INSIDE), "points need labels"),
        (SegmentPrompts(boxes_xyxy=BOXES[:1], point_labels=ONE), "points need labels"),
        (SegmentPrompts(points_xy=OUTSIDE, point_labels=ONE), r"\(95, 5\) lies outside the image of 90 x 60"),
        (SegmentPrompts(points_xy=-INSIDE, point_labels=ONE), r"\(-5, -5\) lies outside"),
        (SegmentPrompts(points_xy=INSIDE * np.nan, point_labels=ONE), "points must be finite"),
        (SegmentPrompts(points_xy=INSIDE, point_labels=ONE * 2), "the label of a point must be 1"),
        (SegmentPrompts(points_xy=INSIDE[0], point_labels=ONE), r"points must be an array of shape \(1, 1, 2\)"),
        (SegmentPrompts(points_xy=INSIDE, point_labels=ONE[0]), r"point labels must be an array of shape \(1, 1\)"),
        (SegmentPrompts(boxes_xyxy=BOXES[:, :3]), r"boxes must be an array of shape \(3, 4\), not \(3, 3\)"),
        (SegmentPrompts(boxes_xyxy=BOXES * np.inf), "boxes must be finite"),
        (SegmentPrompts(BOXES, INSIDE, ONE), r"points must be an array of shape \(3, 1, 2\)"),
        (SegmentPrompts(masks=np.ones((1, 90, 60), bool)), r"rough masks must be 1 of 60 x 90 pixels"),
        (SegmentPrompts(BOXES, masks=np.ones((1, 60, 90), bool)), r"rough masks must be 3 of 60 x 90 pixels"),
    ],
)  # fmt: skip
def test_prompts_that_cannot_be_meant(prompts: SegmentPrompts, message: str, checkpoint: Checkpoint) -> None:
    with pytest.raises(UsageError, match=message):
        prompts.check(*SIZE)


def test_padding_may_lie_anywhere() -> None:
    SegmentPrompts(points_xy=np.full((1, 1, 2), -1, np.float32), point_labels=-ONE).check(*SIZE)
