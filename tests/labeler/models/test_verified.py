"""``--verify``: scores of boxes, compared with a plain forward pass of ``transformers`` on the crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labeler.errors import UsageError
from labeler.models.availability import check_models
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.detectors.detector import Detections, Image, Prompts
from labeler.models.families import VERIFIED, check_verify, family_of
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.models.loading import load_detector
from labeler.models.runtime import Runtime
from labeler.models.taggers.verified import VerifiedDetector
from ontologies.taggers.vocabulary import NEUTRAL, TEMPLATE
from tests.support import tiny_language
from tests.support.tiny_models import make_image
from tests.support.tiny_taggers import tiny_contrastive

PROMPTS = ("cat", "red car")
BOXES = np.asarray([[0, 0, 40, 30], [10.2, 5.7, 30.1, 20], [0, 10, 60, 11.5], [59.9, 39.9, 60, 40]], np.float32)
KIND = GroundedSamKind()


@dataclass(frozen=True)
class Given:
    """Finds ``BOXES`` in every image: the first prompt in those of even rows, the second in the others."""

    def forward_passes(self, prompts: Prompts) -> int:
        return len(prompts)

    def detect(self, images: Sequence[Image], prompts: Sequence[Prompts]) -> list[Detections]:
        of_prompts = np.asarray([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
        return [Detections(BOXES, of_prompts) if asked else Detections.none(0) for asked in prompts]


def plain_score(model: Any, processor: Any, crop: Any, prompt: str) -> float:
    texts = [TEMPLATE.format(prompt), *(NEUTRAL if model.config.model_type == "clip" else ())]
    inputs = processor.image_processor(images=crop, input_data_format="channels_last", return_tensors="pt")
    tokens = processor.tokenizer(texts, padding="max_length", max_length=48, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        logits = model(**inputs, **tokens).logits_per_image[0]
    return float(logits.softmax(0)[0] if len(texts) > 1 else logits.sigmoid()[0])


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_a_score_is_the_probability_of_the_prompt_on_the_crop(kind: str) -> None:
    model, processor = tiny_contrastive(kind)
    image = make_image(40, 60)
    crops = [image[0:30, 0:40], image[5:20, 10:31], None, image[39:40, 59:60]]  # the third is padded
    detector = VerifiedDetector(Given(), model, processor, Runtime(batch_size=2, candidate_floor=1e-9))
    first, nothing, second = detector.detect([image, image, make_image(40, 60, 1)], [PROMPTS, (), PROMPTS])
    np.testing.assert_array_equal(first.boxes_xyxy, BOXES)
    for row, (crop, prompt) in enumerate(zip(crops, PROMPTS * 2, strict=True)):
        assert first.scores[row, 1 - row % 2] == 0
        if crop is not None:
            assert first.scores[row, row % 2] == pytest.approx(plain_score(model, processor, crop, prompt), abs=1e-4)
    assert nothing.scores.shape == (0, 0)
    assert np.abs(first.scores - second.scores).max() > 1e-3
    (alone,) = detector.detect([image], [PROMPTS])
    np.testing.assert_allclose(alone.scores, first.scores, rtol=0, atol=1e-5)

    floor = float(np.median(first.scores.max(axis=1)))
    (kept,) = VerifiedDetector(Given(), model, processor, Runtime(candidate_floor=floor)).detect([image], [PROMPTS])
    np.testing.assert_array_equal(kept.boxes_xyxy, BOXES[first.scores.max(axis=1) >= floor])


def test_a_prompt_that_is_too_long_is_refused() -> None:
    detector = VerifiedDetector(Given(), *tiny_contrastive("siglip"), Runtime())
    assert detector.forward_passes(PROMPTS) == 2
    with pytest.raises(UsageError, match=r"is too long for --verify: .*more tokens than the tagger reads"):
        detector.forward_passes(("a" * 90,))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ModelConfig:
    """Florence-2 with SigLIP."""
    folders = tmp_path_factory.mktemp("florence2"), tmp_path_factory.mktemp("siglip")
    for folder, (model, processor) in zip(folders, (tiny_language.florence(), tiny_contrastive("siglip")), strict=True):
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return ModelConfig(str(folders[0]), "embedded:segmenter", device="cpu", verify=str(folders[1]))


def test_what_it_loads_and_what_it_is_part_of(config: ModelConfig) -> None:
    detector = load_detector(config)
    assert isinstance(detector, VerifiedDetector)
    assert detector.runtime.candidate_floor == config.floor
    assert isinstance(load_detector(replace(config, verify=None)), type(detector.detector))
    check_models(KIND, config, None, tags_only=False, ask_hub=False)
    without = KIND.identity(replace(config, verify=None))
    assert without["verify"] is None
    assert KIND.identity(config) == {**without, "verify": KIND.identity(config)["verify"]}
    assert KIND.identity(config)["verify"].startswith("blake2b:")
    auto = replace(config, detector="florence-community/Florence-2-large", verify="auto")
    assert KIND.identity(auto)["verify"] == "google/siglip2-base-patch16-384"


def test_only_detectors_without_confidence_are_verified(config: ModelConfig, checkpoint: Callable[[str], Path]) -> None:
    assert family_of(KIND, config) is VERIFIED
    check_verify(KIND, config, VERIFIED)
    assert family_of(KIND, replace(config, verify=None)).name == "florence2"
    assert family_of(KIND, replace(config, detector="someone/something")) is VERIFIED  # loading it tells
    sam3 = ModelConfig(PRESETS["sam3"].detector, "", verify="auto")
    with pytest.raises(
        UsageError, match="--verify auto is for a detector without confidences, such as Florence-2, and not for SAM 3"
    ):
        check_verify(Sam3Kind(), sam3, family_of(Sam3Kind(), sam3))
    scored = replace(config, detector=str(checkpoint("owlv2")))
    with pytest.raises(UsageError, match="and not for OWLv2; leave it out"):
        check_verify(KIND, scored, family_of(KIND, scored))
    with pytest.raises(UsageError, match=r"and not for .* \(owlv2\)"):
        load_detector(scored)
