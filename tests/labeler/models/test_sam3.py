"""SAM 3 as a labeler, compared with the same weights run by the processor and the model of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Sam3LiteTextModel, Sam3Model, Sam3Processor

from labeler.errors import ModelError, UsageError
from labeler.geometry.boxes import box_iou
from labeler.geometry.masks import clean_mask, rle_to_mask
from labeler.models.availability import check_models
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.labelers.on_device import labeler_on_device
from labeler.models.labelers.sam3 import PASS_BYTES, Sam3Labeler, prompt_bytes
from labeler.models.loading import load_detector, load_sam3
from labeler.models.prompters.loading import load_prompter
from labeler.models.prompters.prompter import TagPrompts
from labeler.models.segmenters import upscaling
from labeler.models.taggers.config import TaggingConfig
from labeler.records import Instance
from ontologies import ClassSpec, Ontology
from tests.support.tiny_models import SAM3, make_image

Checkpoint = Callable[[str], Path]
FLOOR = 1e-12  # keeps every query
SIZES = [(60, 90), (130, 61), (200, 33)]
WORDS = Ontology.from_text("red cat, boat, dog")


@pytest.fixture(scope="module")
def load(checkpoint: Checkpoint) -> Callable[..., Sam3Labeler]:
    kept: dict[tuple[Any, ...], Sam3Labeler] = {}

    def load_once(family: str = "sam3", **options: Any) -> Sam3Labeler:
        key = (family, *sorted(options.items()))
        if key not in kept:
            config = ModelConfig(str(checkpoint(family)), "", device="cpu", floor=FLOOR, clean_share=0)
            kept[key] = load_sam3(replace(config, **options))
        return kept[key]

    return load_once


def label_one(labeler: Any, image: NDArray[np.uint8], ontology: Ontology = WORDS) -> list[Instance]:
    (found,) = labeler.label([LabelRequest("", image, ontology)])
    return list(found)


@torch.no_grad()
def by_transformers(folder: Path, model: Any, image: NDArray[np.uint8], prompt: str) -> dict[str, Any]:
    """Scores, boxes and masks of one prompt, and mask probabilities, as in the documentation of transformers."""
    processor = Sam3Processor.from_pretrained(folder)
    inputs = processor(images=Image.fromarray(image), text=prompt, return_tensors="pt")
    outputs = model(**inputs)
    size = inputs["original_sizes"].tolist()
    (found,) = processor.post_process_instance_segmentation(outputs, 0.0, target_sizes=size)
    probabilities = torch.nn.functional.interpolate(
        outputs.pred_masks.sigmoid(), size[0], mode="bilinear", align_corners=False
    )[0]
    return {name: values.numpy() for name, values in found.items()} | {"probabilities": probabilities.numpy()}


@pytest.mark.parametrize("family", SAM3)
def test_equals_transformers(family: str, load: Callable[..., Sam3Labeler], checkpoint: Checkpoint) -> None:
    folder = checkpoint(family)
    model = (Sam3LiteTextModel if family == "sam3_lite_text" else Sam3Model).from_pretrained(folder).eval()
    labeler = load(family)
    images = [make_image(*size, seed) for seed, size in enumerate(SIZES)]
    for image, instances in zip(images, labeler.label([LabelRequest("", each, WORDS) for each in images]), strict=True):
        assert [i.score for i in instances] == sorted((i.score for i in instances), reverse=True)
        height, width = image.shape[:2]
        spread = []
        for class_id, prompt in enumerate(WORDS.class_names):
            expected = by_transformers(folder, model, image, prompt)
            boxes = np.clip(expected["boxes"], 0, [width, height, width, height])
            usable = (boxes[:, 2:] > boxes[:, :2]).all(1)
            order = np.flatnonzero(usable)[np.argsort(-expected["scores"][usable], kind="stable")]
            mine = [i for i in instances if i.class_id == class_id]
            assert len(mine) == len(order) > 5
            assert {i.prompt for i in mine} == {prompt}
            # Queries with nearly equal scores may swap places, so each is found by its box.
            found_boxes = np.array([i.box_xyxy for i in mine])
            nearest = np.abs(found_boxes[:, None] - boxes[order]).sum(2).argmin(1)
            assert sorted(nearest) == list(range(len(order)))
            rows = order[nearest]
            np.testing.assert_allclose([i.score for i in mine], expected["scores"][rows], rtol=0, atol=1e-4)
            np.testing.assert_allclose(found_boxes, boxes[rows], rtol=1e-4, atol=1e-4 * max(height, width))
            for instance, row in zip(mine, rows, strict=True):
                mask, truth = rle_to_mask(instance.rle), expected["masks"][row].astype(bool)
                off, union = (mask ^ truth).sum(), (mask | truth).sum()
                assert off <= max(1, 0.001 * union), f"{off} of {union} pixels differ"
                assert instance.area == mask.sum()
                probabilities = expected["probabilities"][row]
                mean = probabilities[truth].mean() if truth.any() else 0.0
                assert instance.mask_score == pytest.approx(float(mean), abs=1e-4)
                inner, outer = (probabilities > 0.7310586).sum(), (probabilities > 0.2689414).sum()
                assert instance.stability == pytest.approx(inner / max(outer, 1), abs=2 / max(outer, 1))
            spread.append(expected["scores"])
        assert np.ptp(np.concatenate(spread)) > 0.01, "the random weights must tell queries apart"
        assert np.abs(spread[0] - spread[1]).max() > 1e-3, "and prompts"


def test_eighty_prompts_take_one_vision_pass(load: Callable[..., Sam3Labeler], monkeypatch: pytest.MonkeyPatch) -> None:
    labeler = load("sam3", max_instances=10_000)
    monkeypatch.setattr(labeler, "prompts_per_pass", 32)
    calls: list[str] = []
    parts = {
        "vision": labeler.model.vision_encoder,
        "text": labeler.model.text_encoder,
        "masks": labeler.model.mask_decoder,
    }
    hooks = [part.register_forward_pre_hook(lambda *_, name=name: calls.append(name)) for name, part in parts.items()]
    prompts = [f"thing {number}" for number in range(80)]
    ontology = Ontology.from_items(prompts)
    found = label_one(labeler, make_image(60, 90), ontology)
    assert (calls.count("vision"), calls.count("masks"), calls.count("text")) == (1, 3, 80)
    assert labeler.forward_passes(tuple(prompts)) == 3
    assert {instance.class_id for instance in found} == set(range(80))
    label_one(labeler, make_image(60, 90, 1), ontology)
    assert (calls.count("vision"), calls.count("text")) == (2, 80), "a prompt is read once"
    for hook in hooks:
        hook.remove()


def test_passes_of_several_prompts_change_nothing(
    load: Callable[..., Sam3Labeler], monkeypatch: pytest.MonkeyPatch
) -> None:
    labeler, image = load(), make_image(60, 90)
    ontology = Ontology(WORDS.classes, ("van", "red tree"))
    alone = label_one(labeler, image, ontology)
    assert 0 < len(alone) < len(label_one(labeler, image)), "distractors take some"
    monkeypatch.setattr(labeler, "prompts_per_pass", 2)
    monkeypatch.setattr(upscaling, "PIXELS_PER_CHUNK", 3 * 60 * 90)
    assert_alike(label_one(labeler, image, ontology), alone)


def assert_alike(found: list[Instance], expected: list[Instance]) -> None:
    """The same but for rounding; of nearly equal scores, the order may differ."""
    assert len(found) == len(expected)
    boxes = [np.array([i.box_xyxy for i in each]) for each in (found, expected)]
    classes = [np.array([i.class_id for i in each]) for each in (found, expected)]
    distance = np.abs(boxes[0][:, None] - boxes[1]).sum(2) + 1000 * (classes[0][:, None] != classes[1])
    matches = distance.argmin(1)
    assert sorted(matches) == list(range(len(expected)))
    for one, other in zip(found, (expected[index] for index in matches), strict=True):
        assert one.prompt == other.prompt
        np.testing.assert_allclose(one.box_xyxy, other.box_xyxy, atol=1e-2)
        assert (one.score, one.mask_score) == pytest.approx((other.score, other.mask_score), abs=1e-5)
        assert abs(one.area - other.area) <= max(2, 0.001 * other.area)


def test_results_do_not_depend_on_batch_or_threads(checkpoint: Checkpoint) -> None:
    """To the bit, also with other prompts for each image, and prompts that another image asked for before."""
    config = ModelConfig(str(checkpoint("sam3")), "", device="cpu", floor=FLOOR)
    ontologies = [WORDS, Ontology.from_text("dog, box"), Ontology.from_text("box, boat")]
    requests = [LabelRequest("", make_image(60, 90, seed), ontologies[seed % 3]) for seed in range(5)]
    together = labeler_on_device(load_sam3(config), config).label(requests)
    alone = labeler_on_device(load_sam3(config), replace(config, batch_size=1))
    assert sum(map(len, together)) > 50
    assert [alone.label([request])[0] for request in reversed(requests)] == together[::-1]
    # A GPU gets whole batches; their rows differ by rounding alone.
    for found, expected in zip(load_sam3(config).label(requests), together, strict=True):
        assert_alike(found, expected)


def test_candidates(load: Callable[..., Sam3Labeler]) -> None:
    """Floor and maximum, by the whole list; ``max_instances`` holds while prompts pass one after the other."""
    image = make_image(60, 90)
    everything = label_one(load(), image)
    floor = everything[len(everything) // 2].score
    assert label_one(load(floor=floor), image) == [i for i in everything if i.score >= floor]
    assert label_one(load(max_instances=7), image) == everything[:7]


def test_a_distractor_takes_what_it_scores_higher_on(load: Callable[..., Sam3Labeler]) -> None:
    image, labeler = make_image(60, 90), load()
    everything = label_one(labeler, image, Ontology.from_text("van, dog"))
    vans, dogs = ([i for i in everything if i.class_id == class_id] for class_id in (0, 1))
    overlap = box_iou(np.array([i.box_xyxy for i in vans]), np.array([i.box_xyxy for i in dogs]))
    better = np.array([i.score for i in dogs]) > np.array([i.score for i in vans])[:, None]
    expected = [van for van, taken in zip(vans, ((overlap >= 0.8) & better).any(1), strict=True) if not taken]
    assert 0 < len(expected) < len(vans)
    assert label_one(labeler, image, Ontology((ClassSpec("van"),), ("dog",))) == expected


def test_prompts_of_one_class_keep_their_own_masks(load: Callable[..., Sam3Labeler]) -> None:
    image, labeler = make_image(60, 90), load()
    apart = label_one(labeler, image, Ontology.from_text("red cat, boat"))
    together = label_one(labeler, image, Ontology.from_text("red cat=thing, boat=thing"))
    assert together == [replace(instance, class_id=0) for instance in apart]


def test_cleaning(load: Callable[..., Sam3Labeler]) -> None:
    image = make_image(60, 90)
    raw, cleaned = label_one(load(), image), label_one(load(clean_share=0.05), image)
    masks = [clean_mask(np.ascontiguousarray(rle_to_mask(instance.rle)), 0.05) for instance in raw]
    assert [i.area for i in cleaned] == [mask.sum() for mask in masks] != [i.area for i in raw]
    assert [i.mask_score for i in cleaned] == [i.mask_score for i in raw]


def test_detections_are_the_candidates_without_masks(load: Callable[..., Sam3Labeler]) -> None:
    image, labeler = make_image(60, 90), load()
    (found,) = labeler.detect([image], [("dog",)])
    instances = label_one(labeler, image, Ontology.from_text("dog"))
    order = np.argsort(-found.scores[:, 0], kind="stable")
    assert found.scores[order, 0].tolist() == [instance.score for instance in instances]
    assert [tuple(box) for box in found.boxes_xyxy[order].tolist()] == [i.box_xyxy for i in instances]
    beside, nothing = labeler.detect([image, image], [("dog",), ()])
    # Some CPUs round the rows of a batch otherwise than an image alone.
    np.testing.assert_allclose(np.sort(beside.scores, axis=0), np.sort(found.scores, axis=0), rtol=0, atol=1e-5)
    assert nothing.scores.shape == (0, 0)


def test_half_precision_stays_near(load: Callable[..., Sam3Labeler]) -> None:
    image = make_image(60, 90)
    full, half = (label_one(load(precision=precision), image) for precision in ("fp32", "bf16"))
    scores = [np.sort([instance.score for instance in found]) for found in (full, half)]
    assert not np.array_equal(*scores), "bf16 was not used"
    assert np.abs(scores[0] - scores[1]).max() < 0.1


def test_memory_of_a_prompt() -> None:
    """The published model: 288 x 288 features of 256 channels, 200 queries; three prompts fit into 2 GiB."""
    from transformers import Sam3Config

    assert prompt_bytes(Sam3Config()) == 4 * 288 * 288 * (6 * 256 + 2 * 200)
    assert PASS_BYTES // prompt_bytes(Sam3Config()) == 3


# --- prompts --------------------------------------------------------------------------------------------------------

LONG = "abcdefghijklmnopqrstuvwxyz0123456789"  # a token per letter


def test_a_prompt_that_is_too_long_is_refused_before_any_image(load: Callable[..., Sam3Labeler]) -> None:
    labeler, config = load(), ModelConfig("", "")
    label_one(labeler, make_image(20, 30), Ontology.from_text(LONG[:30]))  # with two tokens at its ends
    with pytest.raises(UsageError, match=rf"prompt '{LONG}' takes 38 tokens; the detector reads 32: shorten it"):
        load_prompter(None, Ontology.from_text(f"dog, {LONG}"), config, labeler.detector)


def test_a_tag_that_is_too_long_is_left_out(load: Callable[..., Sam3Labeler]) -> None:
    """With SAM 3 itself as the tagger over a list of words."""
    tagging = TaggingConfig("detector", vocabulary=("dog", "boat"), tag_score=FLOOR)
    prompter = load_prompter(tagging, None, ModelConfig("", ""), load().detector)
    assert isinstance(prompter, TagPrompts)
    assert (prompter.fits("dog"), prompter.fits(LONG)) == (True, False)
    (found,) = prompter.prompts_for([make_image(60, 90)])
    assert {tag for tag, _ in found.tags} == {"dog", "boat"}


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_types_are_told_apart_before_a_run(checkpoint: Checkpoint) -> None:
    config = ModelConfig(str(checkpoint("sam3")), "embedded:segmenter", device="cpu")
    check_models(Sam3Kind(), config, None, tags_only=False, ask_hub=False)
    with pytest.raises(
        ModelError, match=r"is of type 'sam3'; known types: grounding-dino.*; SAM 3 needs --labeler sam3"
    ):
        check_models(GroundedSamKind(), config, None, tags_only=False, ask_hub=False)
    with pytest.raises(ModelError, match=r"SAM 3 needs --labeler sam3$"):
        load_detector(config)
    with pytest.raises(ModelError, match=r"known types: sam3, sam3_video, sam3_lite_text$"):
        check_models(Sam3Kind(), ModelConfig("embedded:detector", ""), None, tags_only=False, ask_hub=False)


def test_a_tagger_that_is_the_detector(checkpoint: Checkpoint) -> None:
    config, tagging = ModelConfig(str(checkpoint("sam3")), ""), TaggingConfig("detector", vocabulary=("dog",))
    check_models(Sam3Kind(), config, tagging, tags_only=False, ask_hub=False)
    with pytest.raises(ModelError, match="is of type 'sam3'"):
        check_models(Sam3Kind(), config, tagging, tags_only=True, ask_hub=False)


@pytest.mark.parametrize("family", ["sam3", "sam3_video"])
def test_missing_weights_are_refused(family: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint(family), tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "presence_head" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "part" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"are missing or have another shape, such as detr_decoder.presence_head"):
        load_sam3(ModelConfig(str(tmp_path / "part"), "", device="cpu"))


def test_identity_names_one_model(checkpoint: Checkpoint) -> None:
    identity = Sam3Kind().identity(ModelConfig("facebook/sam3@main", ""))
    assert json.loads(json.dumps(identity)) == {"labeler": "sam3", "detector": "facebook/sam3@main"}
