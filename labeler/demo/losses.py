"""Losses of the demo training: a set loss for grounding detectors, and cross-entropy plus dice for masks."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, generalized_box_iou, sigmoid_focal_loss

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
BOX_WEIGHT, GIOU_WEIGHT = 5.0, 2.0


def set_loss(
    logits: Tensor,
    boxes_cxcywh: Tensor,
    token_maps: list[Tensor],
    true_boxes_cxcywh: list[Tensor],
    copies: int = 1,
) -> Tensor:
    """The set loss of DETR (Carion et al. 2020, arXiv 2005.12872) with token targets (GLIP, Li et al. 2022).

    Args:
        logits: ``(B, Q, T)``, one per query and text token.
        boxes_cxcywh: ``(B, Q, 4)``, relative to the image side.
        token_maps: for each image ``(n, T)``, with 1 at the tokens of the phrases that name the object.
        true_boxes_cxcywh: for each image ``(n, 4)``, relative to the image side.
        copies: the number of queries matched to each object. More than one speeds up the training of the dense encoder
            outputs (Hybrid DETR, Jia et al. 2023, arXiv 2207.13080); the decoder needs exactly one.

    Returns:
        The mean over objects, a scalar.
    """
    targets = torch.zeros_like(logits)
    box_losses = logits.new_zeros(())
    total = max(sum(len(boxes) for boxes in true_boxes_cxcywh), 1) * copies
    for image, (token_map, true_boxes) in enumerate(zip(token_maps, true_boxes_cxcywh, strict=True)):
        if not len(true_boxes):
            continue
        with torch.no_grad():
            cost = _matching_cost(logits[image], boxes_cxcywh[image], token_map, true_boxes)
            rows, columns = linear_sum_assignment(cost.repeat(1, copies).cpu().numpy())
        queries, objects = torch.as_tensor(rows), torch.as_tensor(columns) % len(true_boxes)
        targets[image, queries] = token_map[objects].to(targets)
        predicted, wanted = boxes_cxcywh[image, queries], true_boxes[objects]
        giou = generalized_box_iou(*(box_convert(b, "cxcywh", "xyxy") for b in (predicted, wanted))).diag()
        box_losses = box_losses + BOX_WEIGHT * (predicted - wanted).abs().sum() + GIOU_WEIGHT * (1 - giou).sum()
    class_loss: Tensor = sigmoid_focal_loss(logits, targets, FOCAL_ALPHA, FOCAL_GAMMA, reduction="sum")
    loss: Tensor = (class_loss + box_losses) / total
    return loss


def _matching_cost(logits: Tensor, boxes: Tensor, token_map: Tensor, true_boxes: Tensor) -> Tensor:
    p = logits.sigmoid()
    positive = FOCAL_ALPHA * (1 - p) ** FOCAL_GAMMA * -functional.logsigmoid(logits)
    negative = (1 - FOCAL_ALPHA) * p**FOCAL_GAMMA * -functional.logsigmoid(-logits)
    weights = token_map / token_map.sum(1, keepdim=True).clamp(min=1)
    class_cost = (positive - negative) @ weights.T.to(logits)
    giou = generalized_box_iou(*(box_convert(b, "cxcywh", "xyxy") for b in (boxes, true_boxes)))
    cost: Tensor = 2 * class_cost + BOX_WEIGHT * torch.cdist(boxes, true_boxes, p=1) - GIOU_WEIGHT * giou
    return cost


def mask_loss(logits: Tensor, masks: Tensor, box_areas: Tensor) -> Tensor:
    """Cross-entropy plus dice loss (Milletari et al. 2016, arXiv 1606.04797) of each mask.

    Cross-entropy is summed over the image and divided by the area of the box. So small objects count as much as large
    ones, and the background does not dominate.

    Args:
        logits: ``(N, H, W)``.
        masks: ``(N, H, W)``, in [0, 1].
        box_areas: ``(N,)``, in pixels of ``masks``.

    Returns:
        ``(N,)``.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none").sum((1, 2)) / box_areas
    p = logits.sigmoid()
    dice = 1 - (2 * (p * masks).sum((1, 2)) + 1) / (p.sum((1, 2)) + masks.sum((1, 2)) + 1)
    return entropy + dice
