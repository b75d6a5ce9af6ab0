"""``--detector-image-size`` and ``--segmenter-image-size``: to which size models scale images.

``check_image_sizes`` needs no model library. ``resize_detector`` and ``resize_segmenter`` change a loaded model and its
processor; the weights stay as they are, only position embeddings are interpolated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.identity import local_model_type
from labeler.models.kinds.kind import innermost

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Detector
    from labeler.models.kinds.kind import LabelerKind

ROLES = ("detector", "segmenter")
FIXED_TYPES = ("florence2", "sam3", "sam3_lite_text", "sam3_tracker", "sam3_video")
STRIDE = 32  # of most image encoders
STRIDES = {"sam": 16, "sam_hq": 16}


def check_image_sizes(kind: LabelerKind, config: ModelConfig) -> None:
    """Refuse an image size for a model that is not there, or that takes one size only.

    Raises:
        UsageError: it is so, as far as that is known before models are loaded.
    """
    labeler = innermost(kind)
    sources = {needed.role: needed.source for needed in labeler.models(config)}
    for role in ROLES:
        if (side := getattr(config, f"{role}_image_size")) is None:
            continue
        if not sources.get(role):
            raise UsageError(f"{_flag(role, side)}: the labeler {labeler.kind} has no {role}; leave it out")
        model_type = "sam3" if labeler.kind == "sam3" else local_model_type(sources[role])
        if model_type in FIXED_TYPES:
            raise _fixed(role, side, model_type)


def resize_detector(model: Any, processor: Any, config: ModelConfig) -> None:
    """Make ``processor`` scale images to ``config.detector_image_size``, if it is given.

    Where a model keeps the aspect ratio, this is the shorter side, and the limit of the longer side changes in
    proportion. Else, it is the side of the square.

    Raises:
        UsageError: the model takes another size only, or a multiple of another number.
    """
    side, model_type = config.detector_image_size, model.config.model_type
    if side is None:
        return
    if model_type in FIXED_TYPES:
        raise _fixed("detector", side, model_type)
    images = getattr(processor, "image_processor", processor)
    size = dict(images.size)
    if "shortest_edge" in size:
        longest = size.get("longest_edge")
        scaled = {"longest_edge": round(longest * side / size["shortest_edge"])} if longest else {}
        images.size = type(images.size)(**(size | {"shortest_edge": side} | scaled))
    elif {"height", "width"} <= size.keys():
        stride = getattr(getattr(model.config, "vision_config", None), "patch_size", None) or STRIDE
        if side % stride:
            raise needs_multiple("detector", side, stride)
        images.size = type(images.size)(height=side, width=side)
    else:
        raise _fixed("detector", side, model_type)


def try_image_size(detector: Detector, classes: tuple[str, ...], config: ModelConfig) -> None:
    """Run a detector once, if ``config.detector_image_size`` is given: some need more of a size than its stride.

    Raises:
        UsageError: it fails.
    """
    if (side := config.detector_image_size) is None:
        return
    import numpy as np  # help does not wait for it

    try:
        detector.detect([np.full((side, side, 3), 127, np.uint8)], [classes])
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{_flag('detector', side)}: this detector fails on such images ({reason:.120})") from error


def resize_segmenter(model: Any, processor: Any, config: ModelConfig) -> None:
    """Make a SAM work on squares of ``config.segmenter_image_size``, if it is given.

    Raises:
        UsageError: the model takes another size only, or a multiple of another number.
    """
    side, model_type = config.segmenter_image_size, model.config.model_type
    if side is None:
        return
    if model_type in FIXED_TYPES:
        raise _fixed("segmenter", side, model_type)
    stride = STRIDES.get(model_type, STRIDE)
    windows = getattr(getattr(model.config.vision_config, "backbone_config", None), "window_size_per_stage", None)
    if windows and model_type not in STRIDES:  # Hiera repeats an embedding of one window over its patches of 4 pixels
        stride = max(stride, 4 * windows[0])
    if side % stride:
        raise needs_multiple("segmenter", side, stride)
    encoder, images = model.prompt_encoder, processor.image_processor
    before = encoder.input_image_size
    if model_type in STRIDES:
        _resize_positions(model.vision_encoder, side)
        model.config.prompt_encoder_config.image_embedding_size = _scaled(encoder.image_embedding_size, side, before)[0]
        images.size = type(images.size)(longest_edge=side)
        images.pad_size = type(images.pad_size)(height=side, width=side)
    else:
        model.backbone_feature_sizes = [_scaled(level, side, before) for level in model.backbone_feature_sizes]
        encoder.mask_input_size = tuple(_scaled(encoder.mask_input_size, side, before))
        images.size = type(images.size)(height=side, width=side)
    encoder.image_embedding_size = tuple(_scaled(encoder.image_embedding_size, side, before))
    encoder.input_image_size = side


def _resize_positions(encoder: Any, side: int) -> None:
    """Interpolate the position embeddings of SAM's image encoder. It interpolates the relative ones by itself."""
    from torch import nn
    from torch.nn import functional

    encoder.patch_embed.image_size = (side, side)
    if encoder.pos_embed is not None:
        count = side // encoder.config.patch_size
        channels_first = encoder.pos_embed.detach().permute(0, 3, 1, 2)
        resized = functional.interpolate(channels_first, (count, count), mode="bicubic", align_corners=False)
        encoder.pos_embed = nn.Parameter(resized.permute(0, 2, 3, 1).contiguous(), requires_grad=False)


def _scaled(sizes: Any, side: int, before: int) -> list[int]:
    return [size * side // before for size in sizes]


def _flag(role: str, side: int) -> str:
    return f"--{role}-image-size {side}"


def _fixed(role: str, side: int, model_type: str) -> UsageError:
    return UsageError(f"{_flag(role, side)}: models of type {model_type} take images of one size only; leave it out")


def needs_multiple(role: str, side: int, stride: int) -> UsageError:
    near = max(stride, round(side / stride) * stride)
    return UsageError(f"{_flag(role, side)}: this {role} needs a multiple of {stride}, such as {near}")
