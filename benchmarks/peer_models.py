"""Grounding DINO and SAM with the same random weights, for transformers and for the original code.

The encoders and decoders have few layers, so that a comparison takes minutes. Channels, heads, queries and image sizes
are those of the published checkpoints (Swin-T and ViT-B).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
    SamVisionConfig,
    SwinConfig,
)

from labeler.demo.tiny_detector import demo_tokenizer

LAYERS = {"encoder_layers": 1, "decoder_layers": 2}
VIT_DEPTH = 2
SWIN = {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7}

# Name in the original code -> name in transformers. ``{qkv}`` stands for three layers that the original has in one.
DETECTOR_NAMES = [
    (r"^backbone\.0\.patch_embed\.proj", "swin.embeddings.patch_embeddings.projection"),
    (r"^backbone\.0\.patch_embed\.norm", "swin.embeddings.norm"),
    (r"^backbone\.0\.norm1", "hidden_states_norms.stage2"),
    (r"^backbone\.0\.norm2", "hidden_states_norms.stage3"),
    (r"^backbone\.0\.norm3", "hidden_states_norms.stage4"),
    (r"^backbone\.0\.layers", "swin.encoder.layers"),
    (r"(blocks\.\d+)\.norm1", r"\1.layernorm_before"),
    (r"(blocks\.\d+)\.norm2", r"\1.layernorm_after"),
    (r"attn\.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"),
    (r"attn\.qkv", "attention.{qkv}_proj"),
    (r"(blocks\.\d+)\.attn\.proj", r"\1.attention.o_proj"),
    (r"^(swin|hidden_states_norms)", r"model.backbone.conv_encoder.model.\1"),
    (r"^bert", "model.text_backbone"),
    (r"^feat_map", "model.text_projection"),
    (r"^input_proj", "model.input_proj_vision"),
    (r"^transformer\.tgt_embed", "model.query_position_embeddings"),
    (r"^transformer\.enc_out_bbox_embed", "model.encoder_output_bbox_embed"),
    (r"^transformer\.", "model."),
    (r"encoder\.text_layers\.(\d+)\.norm1", r"encoder.text_layers.\1.layer_norm_before"),
    (r"encoder\.text_layers\.(\d+)\.norm2", r"encoder.text_layers.\1.layer_norm_after"),
    (r"encoder\.text_layers\.(\d+)", r"encoder.layers.\1.text_enhancer_layer"),
    (r"encoder\.fusion_layers\.(\d+)", r"encoder.layers.\1.fusion_layer"),
    (r"gamma_v", "vision_param"),
    (r"gamma_l", "text_param"),
    (r"layer_norm_v\b", "layer_norm_vision"),
    (r"layer_norm_l\b", "layer_norm_text"),
    (r"(fusion_layer\.attn\.(values_|out_|))v_proj", r"\1vision_proj"),
    (r"(fusion_layer\.attn\.(values_|out_|))l_proj", r"\1text_proj"),
    (r"^model\.encoder\.layers\.(\d+)\.(self_attn|norm|linear)", r"model.encoder.layers.\1.deformable_layer.\2"),
    (r"deformable_layer\.norm1", "deformable_layer.self_attn_layer_norm"),
    (r"deformable_layer\.norm2", "deformable_layer.final_layer_norm"),
    (r"(decoder\.layers\.\d+)\.cross_attn", r"\1.encoder_attn"),
    (r"(decoder\.layers\.\d+)\.norm1", r"\1.encoder_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.ca_text", r"\1.encoder_attn_text"),
    (r"(decoder\.layers\.\d+)\.catext_norm", r"\1.encoder_attn_text_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norm2", r"\1.self_attn_layer_norm"),
    (r"(decoder\.layers\.\d+)\.norm3", r"\1.final_layer_norm"),
    (r"decoder\.norm", "decoder.layer_norm"),
    (r"ref_point_head", "reference_points_head"),
    (r"linear1", "fc1"),
    (r"linear2", "fc2"),
    (r"\.in_proj_(weight|bias)", r".{query}.\1"),
]
SEGMENTER_NAMES = [
    (r"^image_encoder\.patch_embed\.proj", "vision_encoder.patch_embed.projection"),
    (r"^image_encoder\.blocks\.(\d+)\.norm", r"vision_encoder.layers.\1.layer_norm"),
    (r"^image_encoder\.blocks", "vision_encoder.layers"),
    (r"^image_encoder", "vision_encoder"),
    (r"neck\.0", "neck.conv1"),
    (r"neck\.1", "neck.layer_norm1"),
    (r"neck\.2", "neck.conv2"),
    (r"neck\.3", "neck.layer_norm2"),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"point_embeddings", "point_embed"),
    (r"mask_downscaling\.0", "mask_embed.conv1"),
    (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
    (r"mask_downscaling\.3", "mask_embed.conv2"),
    (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
    (r"mask_downscaling\.6", "mask_embed.conv3"),
    (r"(transformer\.layers\.\d+)\.norm", r"\1.layer_norm"),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.0", r"\1.proj_in"),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.1", r"\1.layers.0"),
    (r"(output_hypernetworks_mlps\.\d|iou_prediction_head)\.layers\.2", r"\1.proj_out"),
]


def write_checkpoints(folder: Path) -> None:
    """Both models with their processors, in ``detector`` and ``segmenter``, and the text encoder in ``bert``."""
    torch.manual_seed(0)
    tokenizer = demo_tokenizer()
    text = BertConfig(vocab_size=len(tokenizer), num_hidden_layers=2)
    backbone = SwinConfig(out_indices=[2, 3, 4], **SWIN)
    detector = GroundingDinoForObjectDetection(
        GroundingDinoConfig(backbone_config=backbone, text_config=text, **LAYERS)
    )
    vision = SamVisionConfig(num_hidden_layers=VIT_DEPTH, global_attn_indexes=[VIT_DEPTH - 1])
    segmenter = SamModel(SamConfig(vision_config=vision))
    for model in (detector, segmenter):
        _enliven(model)
    # With its full scale, logits would be so large that all scores are 1.
    nn.init.constant_(detector.model.decoder.layer_norm.weight, 0.1)
    detector.save_pretrained(folder / "detector")
    GroundingDinoProcessor(GroundingDinoImageProcessor(), tokenizer).save_pretrained(folder / "detector")
    segmenter.save_pretrained(folder / "segmenter")
    SamProcessor(SamImageProcessor()).save_pretrained(folder / "segmenter")
    BertModel(text).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")


def _enliven(model: nn.Module) -> None:
    """Larger weights than ``transformers`` draws, so that boxes and masks differ from each other."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("vision_param", "text_param")):
                parameter.fill_(0.5)
            elif parameter.ndim >= 2 and "positional_embedding" not in name:
                parameter.normal_(std=1 / math.sqrt(parameter[0].numel()))


def original_detector(folder: Path) -> Any:
    """The Grounding DINO of the package ``groundingdino`` with the weights in ``folder``."""
    import groundingdino
    import groundingdino.models.GroundingDINO.groundingdino
    from groundingdino.models import build_model
    from groundingdino.util.slconfig import SLConfig

    from labeler.models.labelers.autodistill_repairs import repair_grounding_dino

    repair_grounding_dino()
    config = SLConfig.fromfile(str(Path(groundingdino.__file__).parent / "config" / "GroundingDINO_SwinT_OGC.py"))
    config.device, config.text_encoder_type = "cpu", str(folder / "bert")
    config.enc_layers, config.dec_layers = LAYERS["encoder_layers"], LAYERS["decoder_layers"]
    weights = GroundingDinoForObjectDetection.from_pretrained(folder / "detector").state_dict()
    return _filled(build_model(config), weights, DETECTOR_NAMES)


def original_segmenter(folder: Path) -> Any:
    """The SAM of the package ``segment_anything`` with the weights in ``folder``."""
    from segment_anything.build_sam import _build_sam

    weights = SamModel.from_pretrained(folder / "segmenter").state_dict()
    return _filled(_build_sam(768, VIT_DEPTH, 12, [VIT_DEPTH - 1]), weights, SEGMENTER_NAMES)


def ultralytics_segmenter(folder: Path) -> Any:
    """The SAM of Ultralytics with the weights in ``folder``."""
    from ultralytics.models.sam.build import _build_sam

    weights = SamModel.from_pretrained(folder / "segmenter").state_dict()
    model = _build_sam(
        encoder_embed_dim=768,
        encoder_depth=VIT_DEPTH,
        encoder_num_heads=12,
        encoder_global_attn_indexes=[VIT_DEPTH - 1],
    )
    return _filled(model, weights, SEGMENTER_NAMES)


def _filled(model: nn.Module, weights: dict[str, Tensor], names: list[tuple[str, str]]) -> nn.Module:
    """``model`` with ``weights`` of transformers; every weight gets one."""
    state = {}
    for name in model.state_dict():
        if _is_unused(name):
            continue
        other = name
        for pattern, replacement in names:
            other = re.sub(pattern, replacement, other)
        if "{query}" in other:
            state[name] = torch.cat([weights[other.format(query=each)] for each in ("query", "key", "value")])
        elif "{qkv}" in other:
            state[name] = torch.cat([weights[other.format(qkv=each)] for each in "qkv"])
        else:
            state[name] = weights[other]
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(_is_unused(name) for name in missing), missing
    return model.eval()


def _is_unused(name: str) -> bool:
    """Buffers that both compute, and a layer of BERT that Grounding DINO does not use."""
    return name.endswith(("relative_position_index", "position_ids")) or ".pooler." in name
