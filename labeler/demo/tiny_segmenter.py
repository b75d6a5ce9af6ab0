"""The segmenter of the demo: a small SAM 2, and its training step.

An untrained model differs from a new ``Sam2Model`` as follows. The two positional embeddings are equal, as in the
published model, where they are shared. Weights have Xavier's scale, because the standard deviation of 0.02 in
``transformers`` is meant for wider layers, and narrow ones do not learn with it. Queries and keys of the decoder's
cross attention are equal, so that a box corner attends to the pixels at that corner.

Training starts with small images (progressive resizing, Howard 2018), because learning what a box means takes longest
and needs no details. A step then takes a quarter of the time, and the weights fit every image side.
"""

from __future__ import annotations

import copy
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
)

from labeler.demo.losses import mask_loss
from labeler.demo.scene_pool import IMAGE_MEAN, IMAGE_STD, ScenePool, Step

SIDE = 320
WIDTH = 128


def segmenter_config(side: int) -> Sam2Config:
    """The model's configuration for images of ``side`` x ``side`` pixels."""
    hiera = Sam2HieraDetConfig(
        hidden_size=32,
        num_attention_heads=1,
        image_size=[side, side],
        patch_kernel_size=[7, 7],
        patch_stride=[4, 4],
        patch_padding=[3, 3],
        query_stride=[2, 2],
        window_positional_embedding_background_size=[10, 10],
        num_query_pool_stages=2,
        blocks_per_stage=[1, 2, 3],
        embed_dim_per_stage=[32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4],
        window_size_per_stage=[8, 4, 10],
        global_attention_blocks=[4],
        mlp_ratio=3.0,
    )
    return Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=hiera,
            backbone_channel_list=[128, 64, 32],
            backbone_feature_sizes=[[side // stride, side // stride] for stride in (4, 8, 16)],
            fpn_hidden_size=WIDTH,
            fpn_top_down_levels=[0, 1],
        ),
        prompt_encoder_config=Sam2PromptEncoderConfig(
            hidden_size=WIDTH, image_size=side, patch_size=16, mask_input_channels=8
        ),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=8,
            mlp_dim=2 * WIDTH,
            iou_head_hidden_dim=WIDTH,
            dynamic_multimask_via_stability=False,
        ),
    )


def new_segmenter(side: int) -> Sam2Model:
    """An untrained segmenter for images of ``side`` x ``side`` pixels."""
    model = Sam2Model(segmenter_config(side))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    shared, prompts = model.shared_image_embedding, model.prompt_encoder.shared_embedding
    prompts.positional_embedding.data.copy_(shared.positional_embedding)
    for name, module in model.mask_decoder.named_modules():
        if name.endswith(("cross_attn_token_to_image", "cross_attn_image_to_token", "final_attn_token_to_image")):
            nn.init.orthogonal_(module.q_proj.weight, gain=1.5)
            module.k_proj.weight.data.copy_(module.q_proj.weight)
    return model


def segmenter_step(pool: ScenePool, side: int, size: int, device: str, rng: np.random.Generator) -> Step:
    """The training step of the segmenter, with ``size`` images of ``side`` x ``side`` pixels per batch."""
    stream = pool.batches(size, rng)

    def step(model: Any) -> Tensor:
        batch = next(stream)
        pixels = batch.pixel_values(side, device)
        counts = [len(boxes) for boxes in batch.boxes_xyxy]
        boxes = torch.zeros(len(pixels), max(counts), 4)  # the padding of images with fewer objects is removed below
        for row, true_boxes in zip(boxes, batch.boxes_xyxy, strict=True):
            extent = (true_boxes[:, 2:] - true_boxes[:, :2]).repeat(1, 2)
            jitter = torch.from_numpy(rng.normal(0, 0.05, true_boxes.shape)).float()
            row[: len(true_boxes)] = (true_boxes + jitter * extent).clamp(0, 1) * side
        # `get_image_embeddings` runs without gradients, so it cannot be used to train the encoder.
        with torch.autocast(device, torch.bfloat16):
            outputs = model(pixel_values=pixels, input_boxes=boxes.to(device), multimask_output=False)
        logits = torch.cat([masks[:count, 0] for masks, count in zip(outputs.pred_masks, counts, strict=True)]).float()
        scores = torch.cat([ious[:count, 0] for ious, count in zip(outputs.iou_scores, counts, strict=True)]).float()
        masks = torch.cat(
            [
                index_map[None] == torch.arange(1, count + 1)[:, None, None]
                for index_map, count in zip(batch.index_maps, counts, strict=True)
            ]
        )
        targets = functional.interpolate(
            masks[None].float().to(device), size=logits.shape[-2:], mode="bilinear", antialias=True
        )[0]
        with torch.no_grad():
            predicted, true = logits > 0, targets > 0.5
            iou = (predicted & true).sum((1, 2)) / (predicted | true).sum((1, 2)).clamp(min=1)
        extents = torch.cat([true_boxes[:, 2:] - true_boxes[:, :2] for true_boxes in batch.boxes_xyxy])
        areas = (extents.prod(1) * logits.shape[-1] ** 2).to(device)
        return mask_loss(logits, targets, areas).mean() + functional.mse_loss(scores, iou)

    return step


def save_segmenter(model: Any, output: Path) -> None:
    """Write the segmenter and its processor as a checkpoint folder."""
    side = model.config.prompt_encoder_config.image_size
    processor = Sam2ImageProcessor(
        size={"height": side, "width": side},
        mask_size={"height": side // 4, "width": side // 4},
        image_mean=IMAGE_MEAN,
        image_std=IMAGE_STD,
    )
    copy.deepcopy(model).half().save_pretrained(output)  # half the size; it is loaded as fp32
    Sam2Processor(processor).save_pretrained(output)
