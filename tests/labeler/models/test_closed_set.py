"""Detectors with a fixed list of classes, compared with the models and the post-processing of transformers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from labeler.errors import UsageError
from labeler.models.availability import check_classes
from labeler.models.config import ModelConfig
from labeler.models.detectors.known_classes import KnownClasses
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.loading import load_detector
from tests.support.tiny_closed_set import CLASSES, write_closed_set
from tests.support.tiny_models import make_image

# Sigmoid, three times; softmax with a mask of pixels, and without.
FAMILIES = ("rt_detr", "d_fine", "rf_detr", "detr", "yolos")
PROMPTS = ("people", "Traffic_Light", "CATS")
COLUMNS = {2: 0, 1: 1, 0: 2}  # class id: column
SIZES = [(60, 90), (90, 60), (60, 90), (50, 100)]
Folder = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    written: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in written:
            written[family] = write_closed_set(family, tmp_path_factory.mktemp(family))
        return written[family]

    return folder_of


def config_for(folder: Path, floor: float = 1e-9) -> ModelConfig:
    return ModelConfig(str(folder), "embedded:segmenter", device="cpu", floor=floor)


@functools.cache
def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModelForObjectDetection.from_pretrained(folder).eval(), AutoImageProcessor.from_pretrained(folder)


@torch.no_grad()
def by_transformers(folder: Path, image: NDArray[np.uint8], threshold: float) -> NDArray[Any]:
    """Rows of column, score and box of the classes that ``PROMPTS`` mean."""
    model, processor = loaded(folder)
    outputs = model(**processor(images=image, return_tensors="pt"))
    (found,) = processor.post_process_object_detection(outputs, threshold=threshold, target_sizes=[image.shape[:2]])
    height, width = image.shape[:2]
    boxes = np.clip(found["boxes"].numpy(), 0, [width, height, width, height])
    labels = found["labels"].tolist()
    rows = [
        [COLUMNS[label], score, *box]
        for label, score, box in zip(labels, found["scores"].tolist(), boxes, strict=True)
        if label in COLUMNS
    ]
    return np.asarray(rows).reshape(-1, 6)


def rows_of(boxes: NDArray[Any], scores: NDArray[Any]) -> NDArray[Any]:
    rows = [[column, scores[row, column], *boxes[row]] for row, column in zip(*scores.nonzero(), strict=True)]
    return np.asarray(rows).reshape(-1, 6)


def ordered(rows: NDArray[Any]) -> NDArray[Any]:
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_and_scores_are_those_of_transformers(family: str, folder: Folder) -> None:
    images = [make_image(*size, seed) for seed, size in enumerate(SIZES)]
    detector = load_detector(config_for(folder(family)))
    together = detector.detect(images, [PROMPTS] * len(images))
    compared = 0
    for image, found in zip(images, together, strict=True):
        expected = ordered(by_transformers(folder(family), image, 0.0))
        actual = ordered(rows_of(found.boxes_xyxy, found.scores))
        assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32
        np.testing.assert_allclose(actual[:, :2], expected[:, :2], rtol=0, atol=1e-4)
        np.testing.assert_allclose(actual[:, 2:], expected[:, 2:], rtol=0, atol=1e-2)
        assert (np.diff(found.scores.max(1)) <= 0).all()
        compared += len(expected)
    assert compared > 20
    (alone,) = detector.detect(images[:1], [PROMPTS])
    np.testing.assert_allclose(together[0].scores, alone.scores, rtol=0, atol=2e-5)
    (swapped,) = detector.detect(images[:1], [PROMPTS[::-1]])
    np.testing.assert_allclose(swapped.scores[:, ::-1], alone.scores, rtol=0, atol=2e-5)


def test_floor_and_images_without_prompts(folder: Folder) -> None:
    image = make_image(60, 90)
    expected = by_transformers(folder("yolos"), image, 0.0)
    floor = float(np.median(expected[:, 1]))
    nothing, found = load_detector(config_for(folder("yolos"), floor)).detect([image, image], [(), PROMPTS])
    assert nothing.scores.shape == (0, 0)
    assert len(rows_of(found.boxes_xyxy, found.scores)) == (expected[:, 1] >= floor).sum() < len(expected)


def test_very_thin_images_have_boxes_inside_them(folder: Folder) -> None:
    image = make_image(4, 400)
    for family in ("rt_detr", "detr"):
        (found,) = load_detector(config_for(folder(family))).detect([image], [PROMPTS])
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [400, 4, 400, 4]).all()


def test_what_a_prompt_means() -> None:
    known = KnownClasses({0: "cat", 1: "traffic light", 2: "person", 3: "Hot_Dog", 5: "cat"}, "detector 'x'")
    assert known.ids_of("CAT") == known.ids_of("cats") == (0, 5)
    assert known.ids_of("traffic-lights") == (1,)
    assert known.ids_of("people") == (2,)
    assert known.columns(("hot dog", "cat", "Cats")) == {3: [0], 0: [1, 2], 5: [1, 2]}


def test_a_class_that_the_checkpoint_lacks_is_refused_before_the_model_loads(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rt_detr", "id2label": CLASSES}))
    config = config_for(tmp_path)
    check_classes(GroundedSamKind(), config, ["cats", "person"])
    with pytest.raises(UsageError) as caught:
        check_classes(GroundedSamKind(), config, ["cat", "trafic light"])
    assert str(caught.value) == (
        f"prompt 'trafic light' is not a class of detector {str(tmp_path)!r}, which finds only those it was trained "
        "on; did you mean 'traffic light'? Its classes: cat, traffic light, person, dog"
    )
    with pytest.raises(UsageError, match="'zebra' is not a class of detector"):
        load_detector(config_for(folder("yolos"))).detect([make_image(60, 90)], [("zebra",)])
