"""What detectors compute once, and that it equals the forward pass of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForZeroShotObjectDetection

from labeler.models.config import ModelConfig
from labeler.models.detectors import features
from labeler.models.loading import load_detector, load_segmenter
from tests.support.tiny_models import DETECTORS, SEGMENTERS, WORDS, make_image

Checkpoint = Callable[[str], Path]
GROUNDING = ("grounding_dino", "mm_grounding_dino")
PARTS = {  # text encoder, image backbone
    "grounding_dino": ("model.text_backbone.encoder", "model.backbone.encoder"),
    "mm_grounding_dino": ("model.text_backbone.encoder", "model.backbone.encoder"),
    "owlv2": ("owlv2.text_model", "owlv2.vision_model"),
    "omdet_turbo": ("language_backbone.model", "vision_backbone"),
}
OWN_ATTENTION = ("GroundingDino", "MMGroundingDino", "OmDetTurboHybridEncoder")  # transformers has no other for these


def loaded(folder: Path, **options: Any) -> Any:
    return load_detector(ModelConfig(str(folder), "", device="cpu", floor=1e-12, **options))


def counted(module: torch.nn.Module) -> list[int]:
    """The batch size of every call."""
    sizes: list[int] = []
    module.register_forward_hook(
        lambda _, args, inputs, __: sizes.append(len(args[0] if args else next(iter(inputs.values())))),
        with_kwargs=True,
    )
    return sizes


@pytest.mark.parametrize("family", DETECTORS)
def test_prompts_and_images_are_read_once(family: str, checkpoint: Checkpoint) -> None:
    detector = loaded(checkpoint(family), prompts_per_caption=3, batch_size=2)
    texts, images = (counted(detector.model.get_submodule(name)) for name in PARTS[family])
    pixels = [make_image(60, 90, seed) for seed in range(3)]
    detector.detect(pixels, [WORDS] * 3)
    assert sum(images) == 3
    read = len(texts)
    assert read == {"owlv2": 1, "omdet_turbo": 2}.get(family, 4)  # captions; or the prompts, and OmDet-Turbo's task
    detector.detect(pixels, [WORDS] * 3)
    assert len(texts) == read
    detector.detect(pixels[:1], [WORDS[:2]])
    assert len(texts) > read


@pytest.mark.parametrize("family", GROUNDING)
@torch.no_grad()
def test_captions_equal_the_forward_pass_of_transformers(family: str, checkpoint: Checkpoint) -> None:
    """Two images with two captions of different lengths each, together and again from the cache."""
    folder = checkpoint(family)
    detector = loaded(folder, prompts_per_caption=6)
    peer = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    pixels = torch.stack([detector.processor(images=make_image(60, 90, seed), text="x.", return_tensors="pt")
                          ["pixel_values"][0] for seed in range(2)])  # fmt: skip
    short, long = detector._captions(WORDS[:7])[::-1]
    jobs = [(0, long), (1, short), (1, long), (0, short)]
    for _ in range(2):
        for row, caption, logits, boxes in detector._forward(pixels, jobs):
            ids = torch.tensor([caption.token_ids])
            expected = peer(pixel_values=pixels[[row]], input_ids=ids, attention_mask=torch.ones_like(ids))
            length = ids.shape[1]
            np.testing.assert_allclose(logits[:, :length].sigmoid(), expected.logits[0, :, :length].sigmoid(), 0, 1e-5)
            np.testing.assert_allclose(boxes, expected.pred_boxes[0], 0, 1e-5)


@pytest.mark.parametrize("family", ["owlv2", "omdet_turbo"])
@torch.no_grad()
def test_prompts_equal_the_forward_pass_of_transformers(family: str, checkpoint: Checkpoint) -> None:
    folder = checkpoint(family)
    detector, peer = loaded(folder), AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    images, prompts = [make_image(64, 64, seed) for seed in range(2)], ("red cat", "dog", "van")
    tokens = {"padding": "max_length", "return_tensors": "pt"}
    inputs = detector.processor.image_processor(images=images, return_tensors="pt")
    if family == "owlv2":
        text = detector.processor.tokenizer(list(prompts) * 2, max_length=32, **tokens)
        found = peer(**inputs, **text)
        logits, boxes = found.logits, found.pred_boxes
    else:
        asked = detector.processor(
            images=images, text=[list(prompts)] * 2, task=["Detect red cat, dog, van."] * 2, return_tensors="pt"
        )
        found = peer(**asked)
        logits, boxes = found.decoder_class_logits, found.decoder_coord_logits
    for _ in range(2):
        own_logits, own_boxes = detector._forward(inputs["pixel_values"], *detector._text(prompts))
        np.testing.assert_allclose(own_logits.sigmoid(), logits.sigmoid(), 0, 1e-5)
        np.testing.assert_allclose(own_boxes, boxes, 0, 1e-5)


def test_few_captions_are_kept(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CACHED_CAPTIONS", 2)
    detector = loaded(checkpoint("mm_grounding_dino"), prompts_per_caption=1)
    first = detector.detect([make_image(60, 90)], [WORDS])[0]
    assert len(detector.model.model.text_backbone._read) == 2
    again = detector.detect([make_image(60, 90)], [WORDS])[0]
    assert np.array_equal(first.scores, again.scores)


@pytest.mark.parametrize("family", [*DETECTORS, *SEGMENTERS])
def test_attention_is_scaled_dot_product(family: str, checkpoint: Checkpoint) -> None:
    """``from_pretrained`` chooses SDPA wherever transformers has it for the family."""
    folder = str(checkpoint(family))
    load = load_detector if family in DETECTORS else load_segmenter
    model: Any = load(ModelConfig(folder, folder, device="cpu"))
    chosen = {
        type(module).__name__: module.config._attn_implementation
        for module in model.model.modules()
        if hasattr(module, "config") and not type(module).__name__.startswith(OWN_ATTENTION)
    }
    assert {name for name, attention in chosen.items() if "Attention" in name and attention != "sdpa"} == set()
    assert "sdpa" in chosen.values()
