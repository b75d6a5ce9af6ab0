"""Repairs of autodistill packages that were written for earlier libraries; the packages themselves stay as they are."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch

GROUNDED_SAM = "autodistill_grounded_sam"


def repair_grounding_dino() -> None:
    """Give the package ``groundingdino``, if it is imported, a text encoder that runs with transformers 5.

    Its ``BertModelWarper`` uses methods of ``BertModel`` that transformers 5 no longer has; see
    IDEA-Research/GroundingDINO#446.
    """
    from transformers import BertModel

    module = sys.modules.get("groundingdino.models.GroundingDINO.groundingdino")
    if module is not None and not hasattr(BertModel, "get_head_mask"):
        module.BertModelWarper = _with_float_masks  # type: ignore[attr-defined]


def _with_float_masks(bert_model: Any) -> Any:
    """``bert_model`` itself, with a forward that takes Grounding DINO's bool masks ``(B, L, L)``.

    They become what is added to the attention logits: 0 where a token is seen. The names of its weights stay the same.
    """
    forward = bert_model.forward

    def masked(*, attention_mask: torch.Tensor, **inputs: Any) -> Any:
        hidden = torch.finfo(bert_model.dtype).min
        added = torch.where(attention_mask[:, None], 0.0, hidden).to(bert_model.dtype)
        return forward(attention_mask=added, **inputs)

    bert_model.forward = masked
    return bert_model


def repair_processor(model: Any) -> None:
    """Let a processor of transformers 5 find ``post_process_object_detection``, which moved to its image processor."""
    processor: Any = getattr(model, "processor", None)
    mover = getattr(getattr(processor, "image_processor", None), "post_process_object_detection", None)
    if processor is not None and mover is not None and not hasattr(processor, "post_process_object_detection"):
        processor.post_process_object_detection = mover


def is_grounded_sam(model: Any) -> bool:
    """Whether ``model`` is the original Grounded SAM of autodistill, or of a class derived from it."""
    return any(base.__module__.split(".")[0] == GROUNDED_SAM for base in type(model).__mro__)


def repair_colours(model: Any) -> None:
    """Tell the SAM of ``autodistill_grounded_sam`` that it gets BGR, which it would take for RGB."""
    model.sam_predictor.set_image = partial(model.sam_predictor.set_image, image_format="BGR")


def keep_mask_scores(model: Any) -> list[float]:
    """A list that the SAM of ``autodistill_grounded_sam`` appends the score of each mask to; the package drops them."""
    scores: list[float] = []
    predict = model.sam_predictor.predict

    def scored(*args: Any, **options: Any) -> Any:
        masks, mask_scores, logits = predict(*args, **options)
        scores.append(float(mask_scores.max()))
        return masks, mask_scores, logits

    model.sam_predictor.predict = scored
    return scores
