"""The models of the presets, with random weights: they cost what trained ones cost, and nothing is downloaded.

Random weights find noise. So that later stages get ordinary work, each mask becomes the ellipse inside its box, on the
device, after the decoder has done all its work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam2VisionConfig,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
    SamVisionConfig,
    SwinConfig,
)

from labeler.demo.tiny_detector import demo_tokenizer
from labeler.models.config import ModelConfig
from labeler.models.image_sizes import resize_detector, resize_segmenter

DRY_RUN_SIDES = (256, 256)  # of the images of the detector and the segmenter

# As in the published checkpoints: Swin-T, -B and -L; Hiera-T, -B+ and -L; ViT-H.
SWINS: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "base": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
    "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
}
HIERAS: dict[str, dict[str, Any]] = {
    "tiny": {},
    "base-plus": {
        "hidden_size": 112,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 3, 16, 3],
        "embed_dim_per_stage": [112, 224, 448, 896],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 6, 36, 4],
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 16, 8],
        "global_attention_blocks": [23, 33, 43],
        "window_positional_embedding_background_size": [7, 7],
    },
}
CHANNELS = {"tiny": [768, 384, 192, 96], "base-plus": [896, 448, 224, 112], "large": [1152, 576, 288, 144]}
VIT_H = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "global_attn_indexes": [7, 15, 23, 31],
}
# Swin, segmenter; "original" is what autodistill-grounded-sam runs: Grounding DINO with SAM ViT-H.
MODELS = {
    "fast": ("tiny", "tiny"),
    "balanced": ("base", "base-plus"),
    "best": ("large", "large"),
    "original": ("tiny", "vit-h"),
}


@dataclass(frozen=True)
class Models:
    """A detector and a segmenter with their processors."""

    detector: Any
    detector_processor: Any
    segmenter: Any
    segmenter_processor: Any


def build(preset: str, device: str, small: bool = False) -> Models:
    """The models of ``preset`` on ``device``; ``small``: few layers, channels and pixels, for a dry run on a CPU."""
    torch.manual_seed(0)
    swin, segmenter = MODELS[preset]
    tokenizer = demo_tokenizer()
    with torch.device(device):
        detector = _detector(preset == "original", swin, len(tokenizer), small)
        model, processor = _sam(small) if segmenter == "vit-h" else _sam2(segmenter, small)
    model.register_forward_hook(_ellipses, with_kwargs=True)
    words = GroundingDinoProcessor(GroundingDinoImageProcessor(), tokenizer)
    if small:
        sizes = ModelConfig("", "", device, detector_image_size=DRY_RUN_SIDES[0], segmenter_image_size=DRY_RUN_SIDES[1])
        resize_detector(detector, words, sizes)
        resize_segmenter(model, processor, sizes)
        processor = type(processor)(processor.image_processor)  # it notes the size when it is made
    return Models(detector.to(device).eval(), words, model.to(device).eval(), processor)


def _detector(original: bool, swin: str, words: int, small: bool) -> nn.Module:
    backbone = SwinConfig(out_indices=[2, 3, 4], **(SWINS[swin] | ({"depths": [1, 1, 1, 1]} if small else {})))
    text = BertConfig(vocab_size=words, **({"num_hidden_layers": 1} if small else {}))
    layers = {"encoder_layers": 1, "decoder_layers": 2} if small else {}
    if original:
        config = GroundingDinoConfig(backbone_config=backbone, text_config=text, **layers)
        return GroundingDinoForObjectDetection(config)
    return MMGroundingDinoForObjectDetection(
        MMGroundingDinoConfig(backbone_config=backbone, text_config=text, **layers)
    )


def _sam(small: bool) -> tuple[nn.Module, Any]:
    vision = {"num_hidden_layers": 1, "global_attn_indexes": [0]} if small else VIT_H
    return SamModel(SamConfig(vision_config=SamVisionConfig(**vision))), SamProcessor(SamImageProcessor())


def _sam2(size: str, small: bool) -> tuple[nn.Module, Any]:
    hiera = Sam2HieraDetConfig(**HIERAS["tiny" if small else size])
    channels = CHANNELS["tiny" if small else size]
    vision = Sam2VisionConfig(backbone_config=hiera, backbone_channel_list=channels)
    return Sam2Model(Sam2Config(vision_config=vision)), Sam2Processor(Sam2ImageProcessor())


def _ellipses(model: Any, args: Any, inputs: dict[str, Any], outputs: Any) -> Any:
    """Puts ellipses in place of the mask logits, which are (B, n, 1, h, w)."""
    logits: Tensor = outputs.pred_masks
    height, width = logits.shape[-2:]
    side = model.prompt_encoder.input_image_size  # in which boxes are given
    boxes = inputs["input_boxes"].to(logits.device)[..., None, None] / side
    left, top, right, bottom = (boxes[:, :, index] for index in range(4))
    x = (torch.arange(width, device=logits.device) + 0.5) / width
    y = ((torch.arange(height, device=logits.device) + 0.5) / height)[:, None]
    across = (2 * x - left - right) / (right - left).clamp(min=1e-3)
    down = (2 * y - top - bottom) / (bottom - top).clamp(min=1e-3)
    outputs.pred_masks = (8 * (1 - across**2 - down**2)).clamp(-20, 20)[:, :, None].to(logits.dtype)
    return outputs
