"""The demo's segmenter: a small SAM 2 behind a small SAM, and one training step of either.

A fresh ``SamModel`` has two unrelated positional embeddings where the published one shares them; here they are equal
from the start, with standard deviation 1 as in segment-anything. ``transformers`` draws all weights with standard
deviation 0.02, meant for layers of 768 channels; at 64 they stall, so Xavier's scale is used. Queries and keys of the
decoder's cross attention start equal, so that the corner of a box attends to its own place.

SAM 2's decoder sees features of a quarter of the image's resolution and so draws finer edges. It starts from the
decoder of the SAM, which has learned what a box means; from nothing that takes longest.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2MaskDecoderConfig,
    Sam2Model,
    Sam2Processor,
    Sam2PromptEncoderConfig,
    Sam2VisionConfig,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
)

from labeler.demo.losses import mask_loss
from labeler.demo.scene_pool import ScenePool, Step

SAM_SIDE = 192
SEGMENTER_SIDE = 320
DECODER: dict[str, Any] = dict(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, mlp_dim=128, iou_head_hidden_dim=64
)
IMAGE_MEAN, IMAGE_STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]


def new_sam() -> SamModel:
    config = SamConfig(
        vision_config=dict(
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=4,
            mlp_ratio=3.0,
            output_channels=64,
            image_size=SAM_SIDE,
            patch_size=8,
            window_size=8,
            global_attn_indexes=[2],
            num_pos_feats=32,
        ),
        prompt_encoder_config=dict(hidden_size=64, image_size=SAM_SIDE, patch_size=8, mask_input_channels=8),
        mask_decoder_config=DECODER,
    )
    model = SamModel(config)
    nn.init.normal_(model.shared_image_embedding.positional_embedding, std=1.0)
    _initialize(model)
    for name, module in model.mask_decoder.named_modules():
        if name.endswith(("cross_attn_token_to_image", "cross_attn_image_to_token", "final_attn_token_to_image")):
            nn.init.orthogonal_(module.q_proj.weight, gain=1.5)
            module.k_proj.weight.data.copy_(module.q_proj.weight)
    return model


def new_segmenter(decoder: Path) -> Sam2Model:
    """A SAM 2 with the prompt encoder and mask decoder of the SAM in ``decoder``, as far as both have them."""
    side = SEGMENTER_SIDE
    hiera = Sam2HieraDetConfig(
        hidden_size=32,
        num_attention_heads=1,
        image_size=[side, side],
        patch_kernel_size=[7, 7],
        patch_stride=[4, 4],
        patch_padding=[3, 3],
        query_stride=[2, 2],
        window_positional_embedding_background_size=[side // 32, side // 32],
        num_query_pool_stages=2,
        blocks_per_stage=[1, 2, 3],
        embed_dim_per_stage=[32, 64, 96],
        num_attention_heads_per_stage=[1, 2, 4],
        window_size_per_stage=[8, 4, 10],
        global_attention_blocks=[4],
        mlp_ratio=3.0,
    )
    config = Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=hiera,
            backbone_channel_list=[96, 64, 32],
            backbone_feature_sizes=[[side // stride, side // stride] for stride in (4, 8, 16)],
            fpn_hidden_size=64,
            fpn_top_down_levels=[0, 1],
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(
            hidden_size=64, image_size=side, patch_size=16, mask_input_channels=8
        ),
        mask_decoder_config=Sam2MaskDecoderConfig(**DECODER, dynamic_multimask_via_stability=False),
    )
    model = Sam2Model(config)
    _initialize(model)
    # The two families name the same layers differently.
    points = "prompt_encoder.point_embed"
    learned = {
        re.sub(r"(attn(?:_\w+)?)\.out_proj", r"\1.o_proj", name)
        .replace(".mlp.lin1", ".mlp.proj_in")
        .replace(".mlp.lin2", ".mlp.proj_out"): value
        for name, value in SamModel.from_pretrained(decoder, dtype=torch.float32).state_dict().items()
        if not name.startswith("vision_encoder")
    }
    learned[f"{points}.weight"] = torch.cat([learned[f"{points}.{index}.weight"] for index in range(4)])
    own = model.state_dict()
    with torch.no_grad():
        for name, value in learned.items():
            if name in own and own[name].shape == value.shape:
                own[name].copy_(value)
    return model


def _initialize(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    shared, prompts = model.shared_image_embedding, model.prompt_encoder.shared_embedding
    prompts.positional_embedding.data.copy_(shared.positional_embedding)


def segmenter_step(pool: ScenePool, side: int, size: int, device: str, rng: np.random.Generator) -> Step:
    stream = pool.batches(size, rng)
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))

    def step(model: Any) -> Tensor:
        batch = next(stream)
        pixels = functional.interpolate(batch.images.to(device), size=(side, side), mode="bilinear", antialias=True)
        embeddings = model.get_image_embeddings((pixels.float() / 255 - mean) / std)
        counts = [len(boxes) for boxes in batch.boxes_xyxy]
        boxes = torch.zeros(len(pixels), max(counts), 4)  # images of fewer objects get empty boxes, left out below
        for row, true_boxes in zip(boxes, batch.boxes_xyxy, strict=True):
            extent = (true_boxes[:, 2:] - true_boxes[:, :2]).repeat(1, 2)
            jitter = torch.from_numpy(rng.normal(0, 0.05, true_boxes.shape)).float()
            row[: len(true_boxes)] = (true_boxes + jitter * extent).clamp(0, 1) * side
        outputs = model(image_embeddings=embeddings, input_boxes=boxes.to(device), multimask_output=False)
        logits = torch.cat([masks[:count, 0] for masks, count in zip(outputs.pred_masks, counts, strict=True)])
        scores = torch.cat([ious[:count, 0] for ious, count in zip(outputs.iou_scores, counts, strict=True)])
        masks = torch.cat(
            [
                index_map[None] == torch.arange(1, count + 1)[:, None, None]
                for index_map, count in zip(batch.index_maps, counts, strict=True)
            ]
        )
        wanted = functional.interpolate(
            masks[None].float().to(device), size=logits.shape[-2:], mode="bilinear", antialias=True
        )[0]
        with torch.no_grad():
            found, true = logits > 0, wanted > 0.5
            iou = (found & true).sum((1, 2)) / (found | true).sum((1, 2)).clamp(min=1)
        extents = torch.cat([true_boxes[:, 2:] - true_boxes[:, :2] for true_boxes in batch.boxes_xyxy])
        areas = (extents.prod(1) * logits.shape[-1] ** 2).to(device)
        return mask_loss(logits, wanted, areas).mean() + functional.mse_loss(scores, iou)

    return step


def save_segmenter(model: Any, output: Path) -> None:
    copy.deepcopy(model).half().save_pretrained(output)
    normalize = dict(image_mean=IMAGE_MEAN, image_std=IMAGE_STD)
    if isinstance(model, SamModel):
        whole, masks = SAM_SIDE, SAM_SIDE // 2
        processor = SamImageProcessor(
            size={"longest_edge": whole},
            mask_size={"longest_edge": masks},
            pad_size={"height": whole, "width": whole},
            mask_pad_size={"height": masks, "width": masks},
            **normalize,
        )
        SamProcessor(processor).save_pretrained(output)
    else:
        whole, masks = SEGMENTER_SIDE, SEGMENTER_SIDE // 4
        processor = Sam2ImageProcessor(
            size={"height": whole, "width": whole}, mask_size={"height": masks, "width": masks}, **normalize
        )
        Sam2Processor(processor).save_pretrained(output)
