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


def spread_masks(model: Sam2Model) -> None:
    """Start the masks of ambiguous prompts from the single mask, for weights that were trained on boxes alone."""
    decoder = model.mask_decoder
    with torch.no_grad():
        decoder.mask_tokens.weight[1:] = decoder.mask_tokens.weight[:1]
        decoder.mask_tokens.weight[1:] += 0.02 * torch.randn_like(decoder.mask_tokens.weight[1:])
        for other in decoder.output_hypernetworks_mlps[1:]:
            other.load_state_dict(decoder.output_hypernetworks_mlps[0].state_dict())
        last = decoder.iou_prediction_head.proj_out
        last.weight[1:], last.bias[1:] = last.weight[:1].clone(), last.bias[:1].clone()


def segmenter_step(pool: ScenePool, side: int, size: int, device: str, rng: np.random.Generator) -> Step:
    """The training step of the segmenter, with ``size`` images of ``side`` x ``side`` pixels per batch.

    The objects of a batch are asked for with boxes and with points: one point each, for which all three masks are
    trained, because shapes have no parts; or several points, some of them beside the object, for the single mask. One
    point per image lies on the background, where the estimated IoU is to be 0.
    """
    stream = pool.batches(size, rng)

    def step(model: Any) -> Tensor:
        batch = next(stream)
        truth = [_object_masks(*pair) for pair in zip(batch.index_maps, batch.boxes_xyxy, strict=True)]
        counts = [len(masks) for masks in truth]
        areas = torch.cat([(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in batch.boxes_xyxy])
        single = bool(rng.integers(2))
        points, labels = _point_prompts(batch.index_maps, counts, 1 if single else 4, rng)
        with torch.autocast(device, torch.bfloat16):
            embeddings = _image_embeddings(model, batch.pixel_values(side, device))
            by_box = model(
                image_embeddings=embeddings,
                input_boxes=(_box_prompts(batch.boxes_xyxy, rng) * side).to(device),
                multimask_output=False,
            )
            by_point = model(
                image_embeddings=embeddings,
                input_points=(points * side).to(device),
                input_labels=labels.to(device),
                multimask_output=single,
            )
        targets = functional.interpolate(
            torch.cat(truth)[None].float().to(device),
            size=by_box.pred_masks.shape[-2:],
            mode="bilinear",
            antialias=True,
        )[0]
        areas = (areas * targets[0].numel()).to(device)
        background = [scores[count].float() for scores, count in zip(by_point.iou_scores, counts, strict=True)]
        return (
            _prompt_loss(by_box, targets, areas, counts)
            + _prompt_loss(by_point, targets, areas, counts)
            + torch.stack(background).square().mean()
        )

    return step


def _image_embeddings(model: Any, pixels: Tensor) -> list[Tensor]:
    """As ``get_image_embeddings``, which runs without gradients, so that it cannot be used to train the encoder."""
    levels = list(model.get_image_features(pixels, return_dict=True).fpn_hidden_states)
    levels[-1] = levels[-1] + model.no_memory_embedding
    sizes = model.backbone_feature_sizes
    return [level.permute(1, 2, 0).reshape(len(pixels), -1, *size) for level, size in zip(levels, sizes, strict=True)]


def _object_masks(index_map: Tensor, boxes: Tensor) -> Tensor:
    """The masks of an image's objects, bool ``(n, side, side)``."""
    return index_map[None] == torch.arange(1, len(boxes) + 1)[:, None, None]


def _box_prompts(boxes_xyxy: list[Tensor], rng: np.random.Generator) -> Tensor:
    """Jittered boxes ``(B, n, 4)``, relative to the side; zeros where an image has fewer objects."""
    boxes = torch.zeros(len(boxes_xyxy), max(map(len, boxes_xyxy)), 4)
    for row, true_boxes in zip(boxes, boxes_xyxy, strict=True):
        extent = (true_boxes[:, 2:] - true_boxes[:, :2]).repeat(1, 2)
        jitter = torch.from_numpy(rng.normal(0, 0.05, true_boxes.shape)).float()
        row[: len(true_boxes)] = (true_boxes + jitter * extent).clamp(0, 1)
    return boxes


def _point_prompts(index_maps: Tensor, counts: list[int], most: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Points ``(B, n + 1, most, 2)`` relative to the side, and labels ``(B, n + 1, most)``; see ``SegmentPrompts``.

    The first of an object's points lies on it, and any other on it or beside it. Point ``n`` of an image with ``n``
    objects lies on the background.
    """
    points = torch.zeros(len(counts), max(counts) + 1, most, 2)
    labels = torch.full(points.shape[:3], -1)
    for image, (index_map, count) in enumerate(zip(index_maps.numpy(), counts, strict=True)):
        for row in range(count + 1):
            inside = index_map == (row + 1 if row < count else 0)
            for position in range(int(rng.integers(1, most + 1))):
                positive = position == 0 or bool(rng.integers(2))
                pixels = np.flatnonzero(inside if positive else ~inside)
                y, x = divmod(int(pixels[rng.integers(len(pixels))]), index_map.shape[1])
                points[image, row, position] = torch.tensor([x, y]) / len(index_map)
                labels[image, row, position] = int(positive)
    return points, labels


def _prompt_loss(outputs: Any, targets: Tensor, areas: Tensor, counts: list[int]) -> Tensor:
    """The loss of the masks of all objects and of their estimated IoU; each prompt may have several masks."""
    pairs = zip(outputs.pred_masks, outputs.iou_scores, counts, strict=True)
    found = [(masks[:count].float(), scores[:count].float()) for masks, scores, count in pairs]
    logits, scores = torch.cat([masks for masks, _ in found]), torch.cat([scores for _, scores in found])
    per_prompt = logits.shape[1]
    logits, scores = logits.flatten(0, 1), scores.flatten()
    targets, areas = targets.repeat_interleave(per_prompt, 0), areas.repeat_interleave(per_prompt)
    with torch.no_grad():
        predicted, true = logits > 0, targets > 0.5
        iou = (predicted & true).sum((1, 2)) / (predicted | true).sum((1, 2)).clamp(min=1)
    return mask_loss(logits, targets, areas).mean() + functional.mse_loss(scores, iou)


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
