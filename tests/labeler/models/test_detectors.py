"""Boxes and scores, compared with the same weights run by the processors and models of transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.detectors.detector import Detections, Detector
from labeler.models.loading import load_detector
from tests.support.tiny_models import CAPTION_BUDGET, DETECTORS, WORDS, make_image

Checkpoint = Callable[[str], Path]
FLOOR = 1e-12  # keeps every query
GROUNDING = ("grounding_dino", "mm_grounding_dino")
SIZES = [(60, 90), (90, 60), (48, 48), (60, 90), (33, 120)]
# Rounding depends on the number of rows in a matrix product. A padding that leaks changes scores by far more:
# see test_padding_would_show.
SAME = dict(rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def load(checkpoint: Checkpoint) -> Callable[..., Detector]:
    kept: dict[tuple[Any, ...], Detector] = {}

    def load_once(family: str, **options: Any) -> Detector:
        key = (family, *sorted(options.items()))
        if key not in kept:
            config = ModelConfig(str(checkpoint(family)), "embedded:segmenter", device="cpu", floor=FLOOR)
            kept[key] = load_detector(replace(config, **options))
        return kept[key]

    return load_once


@pytest.fixture(scope="module")
def peer(checkpoint: Checkpoint) -> Callable[[str], tuple[Any, Any]]:
    """(model, processor), loaded without this project."""
    kept: dict[str, tuple[Any, Any]] = {}

    def load_once(family: str) -> tuple[Any, Any]:
        if family not in kept:
            folder = checkpoint(family)
            model = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
            kept[family] = (model, AutoProcessor.from_pretrained(folder))
        return kept[family]

    return load_once


def clipped(boxes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    return np.clip(boxes, 0, [width, height, width, height])


def assert_lively(found: Detections) -> None:
    """Check that the random weights distinguish boxes and prompts, so that equal results mean something."""
    assert len(found.scores) > 5
    assert (np.ptp(found.scores, axis=0) > 0.3 * found.scores.mean()).all()
    assert found.scores.shape[1] == 1 or np.ptp(found.scores, axis=1).mean() > 0.005 * found.scores.mean()
    assert np.ptp(found.boxes_xyxy, axis=0).min() > 10


# --- compared with transformers -------------------------------------------------------------------------------------


@torch.no_grad()
def grounding_by_hand(
    model: Any, processor: Any, image: NDArray[np.uint8], prompts: tuple[str, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Boxes, and the mean sigmoid over each prompt's tokens, whose span follows from the dots in the caption."""
    inputs = processor(images=Image.fromarray(image), text="".join(f"{p}. " for p in prompts), return_tensors="pt")
    outputs = model(**inputs)
    spans: list[list[int]] = [[]]
    for position, token in enumerate(processor.tokenizer.convert_ids_to_tokens(inputs.input_ids[0])):
        if token == ".":
            spans.append([])
        elif token not in ("[CLS]", "[SEP]"):
            spans[-1].append(position)
    assert len(spans) == len(prompts) + 1
    probabilities = outputs.logits[0].sigmoid()
    scores = torch.stack([probabilities[:, span].mean(1) for span in spans[:-1]], 1)
    centre_x, centre_y, width, height = outputs.pred_boxes[0].double().unbind(1)
    corners = torch.stack([centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2], 1)
    rows, columns = image.shape[:2]
    return clipped(corners.numpy() * [columns, rows, columns, rows], rows, columns), scores.numpy()


@pytest.mark.parametrize("family", GROUNDING)
@pytest.mark.parametrize("prompts", [("cat",), ("red cat", "zebra", "Blue Dog"), ("dog", "cat")])
def test_grounding_dino_scores(
    family: str, prompts: tuple[str, ...], load: Callable[..., Detector], peer: Callable[[str], tuple[Any, Any]]
) -> None:
    images = [make_image(*size, seed) for seed, size in enumerate(SIZES)]
    together = load(family).detect(images, [prompts] * len(images))
    assert_lively(together[0])
    for image, found in zip(images, together, strict=True):
        boxes, scores = grounding_by_hand(*peer(family), image, prompts)
        assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
        np.testing.assert_allclose(found.boxes_xyxy, boxes, rtol=1e-4, atol=2e-3)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", GROUNDING)
@pytest.mark.parametrize(("prompts_per_caption", "groups"), [(1, [1] * 10), (4, [4, 4, 2]), (None, [10])])
def test_grounding_dino_in_several_captions(
    family: str,
    prompts_per_caption: int | None,
    groups: list[int],
    load: Callable[..., Detector],
    peer: Callable[[str], tuple[Any, Any]],
) -> None:
    image = make_image(60, 90)
    (found,) = load(family, prompts_per_caption=prompts_per_caption).detect([image], [WORDS])
    queries = peer(family)[0].config.num_queries
    assert found.scores.shape == (queries * len(groups), len(WORDS))
    first = 0
    for number, count in enumerate(groups):
        boxes, scores = grounding_by_hand(*peer(family), image, WORDS[first : first + count])
        rows = slice(number * queries, (number + 1) * queries)
        np.testing.assert_allclose(found.boxes_xyxy[rows], boxes, rtol=1e-4, atol=5e-3)
        np.testing.assert_allclose(found.scores[rows, first : first + count], scores, rtol=1e-4, atol=1e-5)
        others = np.delete(found.scores[rows], np.s_[first : first + count], axis=1)
        assert not others.any(), "prompts that were not asked have no score"
        first += count


def test_grounding_dino_keeps_the_models_token_budget(
    load: Callable[..., Detector], peer: Callable[[str], tuple[Any, Any]]
) -> None:
    prompts = (*WORDS, "red cat", "blue dog", "red dog")  # 2 + 10 * 2 + 3 * 3 tokens
    model, _ = peer("grounding_dino")
    (found,) = load("grounding_dino").detect([make_image(60, 90)], [prompts])
    assert len(found.scores) == 2 * model.config.num_queries
    longest = " ".join(["cat"] * (CAPTION_BUDGET - 3))
    (found,) = load("grounding_dino").detect([make_image(60, 90)], [(longest,)])
    assert_lively(found)
    with pytest.raises(UsageError, match=f"the detector reads {CAPTION_BUDGET - 3}"):
        load("grounding_dino").detect([make_image(60, 90)], [(longest + " dog",)])


@pytest.mark.parametrize("prompts", [("cat",), ("red cat", "zebra", "Blue Dog"), ("dog", "cat")])
@torch.no_grad()
def test_owlv2(prompts: tuple[str, ...], load: Callable[..., Detector], peer: Callable[[str], tuple[Any, Any]]) -> None:
    model, processor = peer("owlv2")
    images = [make_image(*size, seed) for seed, size in enumerate(SIZES)]
    together = load("owlv2").detect(images, [prompts] * len(images))
    assert_lively(together[0])
    for image, found in zip(images, together, strict=True):
        inputs = processor(images=Image.fromarray(image), text=[list(prompts)], return_tensors="pt")
        (expected,) = processor.post_process_grounded_object_detection(
            model(**inputs), threshold=0.0, target_sizes=[image.shape[:2]]
        )
        np.testing.assert_allclose(found.scores.max(1), expected["scores"], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(found.scores.argmax(1), expected["labels"])
        np.testing.assert_allclose(
            found.boxes_xyxy, clipped(expected["boxes"].numpy(), *image.shape[:2]), rtol=1e-4, atol=2e-3
        )


@pytest.mark.parametrize("prompts", [("cat",), ("red cat", "zebra", "Blue Dog"), ("dog", "cat")])
@torch.no_grad()
def test_omdet_turbo(
    prompts: tuple[str, ...], load: Callable[..., Detector], peer: Callable[[str], tuple[Any, Any]]
) -> None:
    model, processor = peer("omdet_turbo")
    images = [make_image(*size, seed) for seed, size in enumerate(SIZES)]
    together = load("omdet_turbo").detect(images, [prompts] * len(images))
    assert_lively(together[0])
    for image, found in zip(images, together, strict=True):
        inputs = processor(images=Image.fromarray(image), text=[list(prompts)], return_tensors="pt")
        (expected,) = processor.post_process_grounded_object_detection(
            model(**inputs),
            threshold=0.0,
            nms_threshold=1.0,  # no suppression, so that all queries can be compared
            target_sizes=[image.shape[:2]],
            max_num_det=model.config.num_queries * len(prompts),
        )
        # One row per query and prompt, best first.
        rows, columns = np.unravel_index(np.argsort(-found.scores, axis=None, kind="stable"), found.scores.shape)
        np.testing.assert_allclose(found.scores[rows, columns], expected["scores"], rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(columns, expected["labels"])
        np.testing.assert_allclose(found.boxes_xyxy[rows], expected["boxes"], rtol=1e-4, atol=2e-3)


# --- batches do not change results ----------------------------------------------------------------------------------

ASKED: list[tuple[str, ...]] = [
    ("cat",),
    ("red cat", "zebra", "dog", "boat"),
    (),
    ("dog", "cat"),
    ("cat",),
    WORDS,
    ("red cat", "zebra", "dog", "boat"),
    ("cat", "dog"),
    ("a very long blue bird box",),
]


def assert_same(found: Detections, alone: Detections, where: str = "") -> None:
    np.testing.assert_allclose(found.scores, alone.scores, **SAME, err_msg=where)
    np.testing.assert_allclose(found.boxes_xyxy / 100, alone.boxes_xyxy / 100, **SAME, err_msg=where)


@pytest.mark.parametrize(
    ("family", "prompts_per_caption"),
    [*((family, None) for family in DETECTORS), *((family, 1) for family in GROUNDING)],
)
def test_detections_do_not_depend_on_the_batch(
    family: str, prompts_per_caption: int | None, load: Callable[..., Detector]
) -> None:
    images = [make_image(*SIZES[index % len(SIZES)], index) for index in range(len(ASKED))]
    detector = load(family, batch_size=1, prompts_per_caption=prompts_per_caption)
    alone = [detector.detect([image], [prompts])[0] for image, prompts in zip(images, ASKED, strict=True)]
    for batch_size in (1, 2, 8):
        together = load(family, batch_size=batch_size, prompts_per_caption=prompts_per_caption).detect(images, ASKED)
        assert len(together) == len(images)
        for prompts, found, expected in zip(ASKED, together, alone, strict=True):
            assert found.scores.shape[1] == len(prompts)
            assert_same(found, expected, f"batch size {batch_size}, {prompts}")
        assert together[2].boxes_xyxy.shape == (0, 4)
        assert together[2].scores.shape == (0, 0)


def test_padding_would_show(load: Callable[..., Detector], monkeypatch: pytest.MonkeyPatch) -> None:
    """The tolerance is tight enough: text that sees the padding of another image differs by a hundred times more."""
    detector: Any = load("mm_grounding_dino", batch_size=8)
    images, prompts = [make_image(60, 90)] * 2, [("cat",), ("red cat", "dog", "boat")]
    good = detector.detect(images, prompts)[0]
    forward = detector.model.forward

    def leaky(**inputs: Any) -> Any:
        return forward(**inputs | {"attention_mask": torch.ones_like(inputs["attention_mask"])})

    monkeypatch.setattr(detector.model, "forward", leaky)
    leaked = detector.detect(images, prompts)[0]
    assert np.abs(np.sort(good.scores[:, 0]) - np.sort(leaked.scores[:, 0])).max() > 100 * SAME["atol"]


@pytest.mark.parametrize("family", DETECTORS)
def test_nothing_to_do(family: str, load: Callable[..., Detector]) -> None:
    assert load(family).detect([], []) == []
    for found in load(family).detect([make_image(20, 30), make_image(30, 20)], [(), ()]):
        assert found.boxes_xyxy.shape == (0, 4)
        assert found.scores.shape == (0, 0)


@pytest.mark.parametrize("family", DETECTORS)
def test_candidate_floor(family: str, load: Callable[..., Detector]) -> None:
    image, prompts = make_image(60, 90), ("red cat", "dog")
    (everything,) = load(family).detect([image], [prompts])
    best = everything.scores.max(1)
    floor = float(np.median(best))
    (found,) = load(family, floor=floor).detect([image], [prompts])
    kept = best >= floor
    assert 0 < kept.sum() < len(best)
    assert_same(found, Detections(everything.boxes_xyxy[kept], everything.scores[kept]))
    (found,) = load(family, floor=1.0).detect([image], [prompts])
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.scores.shape == (0, 2)


@pytest.mark.parametrize("family", ["owlv2", "omdet_turbo"])
def test_a_prompt_that_is_too_long_is_refused(family: str, load: Callable[..., Detector]) -> None:
    long = "x" * 100
    with pytest.raises(UsageError, match=r"^prompt 'x+' takes 102 tokens; the detector reads \d+: shorten it$"):
        load(family).detect([make_image(20, 30)], [("cat", long)])


@pytest.mark.parametrize("family", DETECTORS)
def test_boxes_lie_in_the_image(family: str, load: Callable[..., Detector]) -> None:
    sizes = [(200, 20), (20, 200), (1, 1), (7, 300)]
    images = [make_image(*size) for size in sizes]
    for found, (height, width) in zip(load(family).detect(images, [("cat",)] * len(images)), sizes, strict=True):
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= np.array([width, height, width, height])).all()
        assert (found.boxes_xyxy[:, 2:] >= found.boxes_xyxy[:, :2]).all()
        assert ((found.scores >= 0) & (found.scores <= 1)).all()


@pytest.mark.parametrize("family", DETECTORS)
def test_lower_precision_stays_near(family: str, load: Callable[..., Detector]) -> None:
    image, prompts = make_image(60, 90), ("red cat", "dog")
    (full,) = load(family).detect([image], [prompts])
    (half,) = load(family, precision="bf16").detect([image], [prompts])
    assert half.scores.dtype == np.float32
    assert not np.array_equal(half.scores, full.scores), "bf16 was not used"
    # Two-stage detectors may choose other queries, so only the best are compared.
    assert np.abs(np.sort(half.scores.max(1))[::-1][:3] - np.sort(full.scores.max(1))[::-1][:3]).max() < 0.1
