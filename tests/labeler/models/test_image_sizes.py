"""Image sizes of detectors and segmenters, compared with models of transformers that are built for the size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskGeneration, AutoModelForZeroShotObjectDetection

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.image_sizes import check_image_sizes
from labeler.models.kinds.boxes import BoxesKind
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.models.loading import load_detector, load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts
from tests.support.command_line import run_in_process
from tests.support.tiny_closed_set import write_closed_set
from tests.support.tiny_models import make_boxes, make_image

Checkpoint = Callable[[str], Path]
DEMO = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")


def resized(folder: Path, **sizes: int) -> ModelConfig:
    return ModelConfig(str(folder), str(folder), device="cpu", floor=1e-12, clean_share=0, **sizes)


def inputs_of(module: torch.nn.Module) -> list[tuple[int, ...]]:
    """The shape of the first tensor of every call."""
    shapes: list[tuple[int, ...]] = []
    module.register_forward_pre_hook(
        lambda _, args, inputs: shapes.append(tuple((args or tuple(inputs.values()))[0].shape)), with_kwargs=True
    )
    return shapes


# --- detectors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "backbone", "side", "shape"),
    [
        ("grounding_dino", "model.backbone.encoder", 64, (64, 96)),
        ("mm_grounding_dino", "model.backbone.encoder", 128, (128, 192)),
        ("mm_grounding_dino", "model.backbone.encoder", 96, (96, 144)),  # as the checkpoint says
        ("owlv2", "owlv2.vision_model", 96, (96, 96)),
        ("omdet_turbo", "vision_backbone", 128, (128, 128)),
    ],
)
def test_what_a_detector_sees(
    family: str, backbone: str, side: int, shape: tuple[int, int], checkpoint: Checkpoint
) -> None:
    detector: Any = load_detector(resized(checkpoint(family), detector_image_size=side))
    shapes = inputs_of(detector.model.get_submodule(backbone))
    (found,) = detector.detect([make_image(60, 90)], [("cat", "red dog")])
    assert shapes == [(1, 3, *shape)]
    assert len(found.scores) > 5
    assert (found.boxes_xyxy <= [90, 60, 90, 60]).all()


def test_a_long_image_keeps_its_limit_in_proportion(checkpoint: Checkpoint) -> None:
    """The checkpoint scales to 96 pixels, 160 on the longer side; twice that is 192 and 320."""
    detector: Any = load_detector(resized(checkpoint("grounding_dino"), detector_image_size=192))
    shapes = inputs_of(detector.model.get_submodule("model.backbone.encoder"))
    detector.detect([make_image(60, 300)], [("cat",)])
    assert shapes == [(1, 3, 64, 320)]


@torch.no_grad()
def test_positions_of_owlv2_are_interpolated_as_transformers_does(checkpoint: Checkpoint) -> None:
    folder = checkpoint("owlv2")
    detector: Any = load_detector(resized(folder, detector_image_size=128))
    image = make_image(128, 128)
    (found,) = detector.detect([image], [("red cat", "dog")])
    peer = AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    processor = detector.processor
    pixels = processor.image_processor(images=image, size={"height": 128, "width": 128}, return_tensors="pt")
    text = processor.tokenizer(["red cat", "dog"], padding="max_length", max_length=32, return_tensors="pt")
    expected = peer(**pixels, **text, interpolate_pos_encoding=True)
    np.testing.assert_allclose(found.scores, expected.logits[0].sigmoid(), 0, 1e-5)


@pytest.mark.parametrize(("family", "side"), [("detr", 64), ("rt_detr", 96), ("yolos", 96), ("rf_detr", 128)])
def test_closed_set_detectors(family: str, side: int, tmp_path: Path) -> None:
    detector: Any = load_detector(resized(write_closed_set(family, tmp_path), detector_image_size=side))
    shapes = inputs_of(detector.model)
    (found,) = detector.detect([make_image(60, 90)], [("cat", "traffic light", "person", "dog")])
    assert min(shapes[0][-2:]) == side
    assert len(found.scores)


@pytest.mark.parametrize(
    ("family", "side", "message"),
    [
        ("rt_detr", 100, "this detector needs a multiple of 32, such as 96"),
        ("rf_detr", 32, r"this detector fails on such images \(selected index k out of range\)"),
    ],
)
def test_closed_set_detectors_that_cannot(family: str, side: int, message: str, tmp_path: Path) -> None:
    folder = write_closed_set(family, tmp_path)
    with pytest.raises(UsageError, match=f"^--detector-image-size {side}: {message}$"):
        load_detector(resized(folder, detector_image_size=side))


# --- segmenters -----------------------------------------------------------------------------------------------------


def built_for(folder: Path, side: int) -> Any:
    """The model of transformers, built for images of ``side`` pixels; position embeddings are interpolated by hand."""
    config = AutoConfig.from_pretrained(folder)
    before = config.prompt_encoder_config.image_size
    config.prompt_encoder_config.image_size = side
    if config.model_type == "sam2":
        sizes = config.vision_config.backbone_feature_sizes
        config.vision_config.backbone_feature_sizes = [[each * side // before for each in level] for level in sizes]
        return AutoModelForMaskGeneration.from_pretrained(folder, config=config).eval()
    config.prompt_encoder_config.image_embedding_size = side // config.prompt_encoder_config.patch_size
    config.vision_config.image_size = side
    peer = AutoModelForMaskGeneration.from_config(config).eval()
    weights = AutoModelForMaskGeneration.from_pretrained(folder).state_dict()
    own = peer.state_dict()
    for name, values in weights.items():
        if values.shape != own[name].shape and values.ndim == 4:
            moved = values.permute(0, 3, 1, 2)
            size = own[name].shape[1:3]
            weights[name] = torch.nn.functional.interpolate(moved, size, mode="bicubic").permute(0, 2, 3, 1)
        elif values.shape != own[name].shape:  # relative positions of global attention
            length = own[name].shape[0]
            weights[name] = torch.nn.functional.interpolate(values.T[None], length, mode="linear")[0].T
    peer.load_state_dict(weights)
    return peer


@pytest.mark.parametrize(("family", "side"), [("sam", 96), ("sam_hq", 96), ("sam2", 128), ("sam2", 32), ("sam", 64)])
@torch.no_grad()
def test_masks_equal_those_of_a_model_built_for_the_size(family: str, side: int, checkpoint: Checkpoint) -> None:
    folder = checkpoint(family)
    segmenter = load_segmenter(resized(folder, segmenter_image_size=side))
    image, boxes = make_image(side, side), make_boxes(3, side, side)
    masks = segmenter.segment([image], [SegmentPrompts.of_boxes(boxes)])[0]
    pixels = segmenter.image_processor(images=image, return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, side, side)
    peer = built_for(folder, side)
    outputs = peer(pixel_values=pixels, input_boxes=torch.from_numpy(boxes)[None], multimask_output=False)
    np.testing.assert_allclose([mask.mask_score for mask in masks], outputs.iou_scores[0, :, 0], 0, 1e-5)
    logits = torch.nn.functional.interpolate(outputs.pred_masks[0], (side, side), mode="bilinear")
    areas = (logits[:, 0] > 0).sum((1, 2))
    np.testing.assert_allclose([mask.area for mask in masks], areas, 0, 2)


def test_edgetam(checkpoint: Checkpoint) -> None:
    pytest.importorskip("timm")
    segmenter = load_segmenter(resized(checkpoint("edgetam"), segmenter_image_size=128))
    (masks,) = segmenter.segment([make_image(60, 90)], [SegmentPrompts.of_boxes(make_boxes(2, 60, 90))])
    assert [tuple(mask.rle["size"]) for mask in masks] == [(60, 90)] * 2


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sizes", "message"),
    [
        (Sam3Kind(), {"detector_image_size": 640}, "--detector-image-size 640: models of type sam3 take images of one"),
        (Sam3Kind(), {"segmenter_image_size": 640}, "--segmenter-image-size 640: the labeler sam3 has no segmenter"),
        (BoxesKind("/boxes.json", ""), {"detector_image_size": 640}, "the labeler boxes has no detector; leave it out"),
    ],
)
def test_sizes_that_no_model_takes(kind: LabelerKind, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_image_sizes(kind, ModelConfig("facebook/sam3", "", **sizes))


def test_sizes_that_do_not_suit(checkpoint: Checkpoint) -> None:
    cases = (("sam", 72, 16), ("sam2", 80, 32))
    for family, side, stride in cases:
        with pytest.raises(UsageError, match=f"--segmenter-image-size {side}: .* needs a multiple of {stride},"):
            load_segmenter(resized(checkpoint(family), segmenter_image_size=side))
    with pytest.raises(UsageError, match="--segmenter-image-size 448: models of type sam3_tracker take images of one"):
        load_segmenter(resized(checkpoint("sam3_tracker"), segmenter_image_size=448))
    with pytest.raises(UsageError, match="--detector-image-size 100: this detector needs a multiple of 16, such as 96"):
        load_detector(resized(checkpoint("owlv2"), detector_image_size=100))
    with pytest.raises(UsageError, match="--detector-image-size must be a whole number from 32 to 4096, not 8"):
        ModelConfig("", "", detector_image_size=8)


# --- a run ----------------------------------------------------------------------------------------------------------


def test_a_size_decides_the_records(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.fromarray(make_image(96, 120)).save(tmp_path / "images" / "0.png")
    command = ("label", tmp_path / "images", "-o", tmp_path / "out", "--model", "demo", "--classes", "red circle",
               "--device", "cpu", "--engine", "local")  # fmt: skip
    sizes = ("--detector-image-size", 96, "--segmenter-image-size", 160)
    done = run_in_process(*command, *sizes)
    assert done.returncode == 0, done.stderr
    settings = json.loads((tmp_path / "out" / "run" / "run.json").read_text())
    stated = {"detector_image_size": 96, "segmenter_image_size": 160}
    assert stated.items() <= settings["labeling"].items()
    assert stated.items() <= settings["model"].items()
    assert stated.items() <= json.loads((tmp_path / "out" / "run" / "summary.json").read_text())["asked"].items()
    assert run_in_process(*command, *sizes).returncode == 0
    other = run_in_process(*command, *sizes[2:])
    assert other.returncode == 1 or other.returncode == 2
    assert "was labeled with another detector_image_size; choose another -o" in other.stderr


def test_the_identity_without_sizes_is_that_of_before() -> None:
    names = GroundedSamKind().identity(DEMO).keys()
    assert not any("image_size" in name for name in names)
