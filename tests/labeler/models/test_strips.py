"""Images that are thinner than a model takes, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labeler.models.config import ModelConfig
from labeler.models.loading import load_detector, load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts
from labeler.models.strips import padded, padded_to_ratio
from tests.support.tiny_models import DETECTORS, make_image

Checkpoint = Callable[[str], Path]
STRIPS = [(88, 590), (10, 256), (600, 1), (1, 700), (1, 1)]


def test_padding_leaves_the_image_in_its_corner() -> None:
    image = make_image(10, 256)
    whole = padded(image, 40)
    assert whole.shape == (40, 256, 3)
    assert (whole[:10] == image).all()
    assert (whole[10:] == np.rint(image.mean((0, 1)))).all()
    assert padded(image, 10) is image
    assert padded_to_ratio(image, 26) is image
    assert padded_to_ratio(image, 16).shape == (16, 256, 3)


@pytest.mark.parametrize("detector", ["embedded:detector", *DETECTORS])
def test_boxes_of_strips_lie_in_the_image(detector: str, checkpoint: Checkpoint) -> None:
    name = detector if ":" in detector else str(checkpoint(detector))
    config = ModelConfig(name, "embedded:segmenter", device="cpu", floor=1e-12)
    loaded = load_detector(config)
    for height, width in STRIPS:
        found = loaded.detect([make_image(height, width)], [("red box",)])[0]
        assert len(found.boxes_xyxy)
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= [width, height, width, height]).all()


def test_boxes_of_a_strip_are_those_of_the_padded_image(checkpoint: Checkpoint) -> None:
    config = ModelConfig(str(checkpoint("grounding_dino")), "embedded:segmenter", device="cpu", floor=1e-12)
    detector = load_detector(config)
    whole = make_image(200, 400)
    whole[20:] = np.rint(whole[:20].mean((0, 1)))
    of_strip, of_whole = (detector.detect([image], [("red",)])[0] for image in (whole[:20], padded(whole[:20], 200)))
    assert len(of_strip.boxes_xyxy) == len(of_whole.boxes_xyxy)
    inside = detector.detect([whole], [("red",)])[0]
    assert (inside.boxes_xyxy == of_whole.boxes_xyxy).all()


@pytest.mark.parametrize("segmenter", ["embedded:segmenter", "sam", "sam_hq", "sam2", "edgetam"])
def test_masks_of_strips_have_the_size_of_the_image(segmenter: str, checkpoint: Checkpoint) -> None:
    name = segmenter if ":" in segmenter else str(checkpoint(segmenter))
    loaded = load_segmenter(ModelConfig("embedded:detector", name, device="cpu"))
    for height, width in STRIPS:
        box = np.array([[0, 0, width, height]], np.float32)
        (mask,) = loaded.segment([make_image(height, width)], [SegmentPrompts.of_boxes(box)])[0]
        assert mask.rle["size"] == [height, width]
