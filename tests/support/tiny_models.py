"""Tiny checkpoints of every model family, with random weights, for ``from_pretrained``.

New weights of ``transformers`` are so small that all boxes and masks are alike. ``_enliven`` draws larger ones, and
lets text influence the image, so that comparing two results means something.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORDS = ("red", "blue", "cat", "dog", "car", "van", "box", "tree", "bird", "boat")
BERT_SEPARATORS = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
DETECTORS = ("grounding_dino", "mm_grounding_dino", "owlv2", "omdet_turbo")
SEGMENTERS = ("sam", "sam_hq", "sam2", "sam2_video", "edgetam", "edgetam_video", "sam3_video")
SAM3 = ("sam3", "sam3_lite_text", "sam3_video")  # what ``--labeler sam3`` takes
CAPTION_BUDGET = 24
SIDE = 64


def write_checkpoint(family: str, folder: Path) -> None:
    """Write a tiny model of ``family`` with its processor, the same every time."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(7)
        model, processor = _BUILDERS[family]()
        _enliven(model, gain=1.25 if family == "grounding_dino" else 1.0)  # its scores have no scale parameter
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def make_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Coloured blobs, uint8 (height, width, 3)."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def make_boxes(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.float32]:
    """Boxes of all sizes inside an image, float32 (count, 4) xyxy with fractions."""
    corners = np.random.default_rng(seed).uniform(0, 1, (count, 2, 2))
    low, high = corners.min(axis=1) * 0.9, corners.max(axis=1) * 0.9 + 0.1
    return (np.concatenate([low, high], axis=1) * [width, height, width, height]).astype(np.float32)


def bert_tokenizer() -> Any:
    """A WordPiece tokenizer for ``WORDS`` and single characters, with BERT's ids for the separators."""
    from transformers import BertTokenizer

    fixed = {**BERT_SEPARATORS, "[PAD]": 0, "[UNK]": 100, "[MASK]": 103}
    by_id = {index: f"[unused{index}]" for index in range(1030)} | {index: token for token, index in fixed.items()}
    letters = string.ascii_lowercase + string.digits
    for token in (*WORDS, *letters, *(f"##{letter}" for letter in letters), "-", "'", ","):
        by_id[len(by_id)] = token
    return BertTokenizer(vocab={token: index for index, token in by_id.items()}, do_lower_case=True)


def _clip_tokenizer(length: int) -> Any:
    from transformers import CLIPTokenizer

    characters = string.ascii_lowercase + string.digits + ",.?-'"
    tokens = ["!", *characters, *(f"{character}</w>" for character in characters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="!", model_max_length=length)


def _enliven(model: Any, gain: float = 1.0) -> None:
    """Draw all matrices and kernels with ``gain`` instead of a deviation of 0.02, and fuse text and image fully."""
    from torch import nn

    for name, parameter in model.named_parameters():
        if "timm_model" in name:
            continue  # in deep models, larger weights would amplify rounding errors
        if name.endswith(("vision_param", "text_param")):
            nn.init.constant_(parameter, 0.5)
        elif parameter.ndim >= 2 and "positional_embedding" not in name:
            nn.init.normal_(parameter, std=gain / math.sqrt(parameter[0].numel()))
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)


# --- detectors ----------------------------------------------------------------------------------------------------


def _swin(**options: Any) -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        image_size=SIDE, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4,
        out_indices=[2, 3, 4], **options,
    )  # fmt: skip


def _grounding(config_class: Any, model_class: Any) -> tuple[Any, Any]:
    from transformers import BertConfig, GroundingDinoImageProcessor, GroundingDinoProcessor

    tokenizer = bert_tokenizer()
    config = config_class(
        backbone_config=_swin(),
        text_config=BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=40,
        ),
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        encoder_attention_heads=4, decoder_attention_heads=4, num_queries=20, max_text_len=CAPTION_BUDGET,
    )  # fmt: skip
    image_processor = GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})
    return model_class(config), GroundingDinoProcessor(image_processor, tokenizer)


def _grounding_dino() -> tuple[Any, Any]:
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    return _grounding(GroundingDinoConfig, GroundingDinoForObjectDetection)


def _mm_grounding_dino() -> tuple[Any, Any]:
    from transformers import MMGroundingDinoConfig, MMGroundingDinoForObjectDetection

    return _grounding(MMGroundingDinoConfig, MMGroundingDinoForObjectDetection)


def _owlv2() -> tuple[Any, Any]:
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    tokenizer = _clip_tokenizer(32)
    config = Owlv2Config(
        text_config=dict(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=32, bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        vision_config=dict(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
            patch_size=16,
        ),
        projection_dim=32,
    )  # fmt: skip
    image_processor = Owlv2ImageProcessor(size={"height": SIDE, "width": SIDE})
    return Owlv2ForObjectDetection(config), Owlv2Processor(image_processor, tokenizer)


def _omdet_turbo() -> tuple[Any, Any]:
    from transformers import (
        CLIPTextConfig,
        DetrImageProcessor,
        OmDetTurboConfig,
        OmDetTurboForObjectDetection,
        OmDetTurboProcessor,
    )

    tokenizer = _clip_tokenizer(77)
    config = OmDetTurboConfig(
        text_config=CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=48, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=77, projection_dim=48,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        ),
        backbone_config=_swin(), apply_layernorm_after_vision_backbone=False, image_size=SIDE, num_queries=20,
        text_projection_in_dim=48, text_projection_out_dim=48, class_embed_dim=48, task_encoder_hidden_dim=64,
        encoder_hidden_dim=32, vision_features_channels=[32, 32, 32], encoder_in_channels=[16, 32, 64],
        encoder_dim_feedforward=64, encoder_attention_heads=4, decoder_hidden_dim=32, decoder_num_heads=4,
        decoder_num_layers=2, decoder_dim_feedforward=64,
    )  # fmt: skip
    image_processor = DetrImageProcessor(size={"height": SIDE, "width": SIDE}, do_pad=False)
    return OmDetTurboForObjectDetection(config), OmDetTurboProcessor(image_processor, tokenizer)


# --- segmenters ---------------------------------------------------------------------------------------------------

_PROMPT_ENCODER = dict(hidden_size=32, image_size=SIDE, patch_size=8, mask_input_channels=8)
_MASK_DECODER = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_dim=64, iou_head_hidden_dim=32)


def _sam_like(config_class: Any, model_class: Any, processor_class: Any, **decoder: Any) -> tuple[Any, Any]:
    from transformers import SamImageProcessor

    config = config_class(
        vision_config=dict(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, output_channels=32, image_size=SIDE,
            patch_size=8, window_size=4, global_attn_indexes=[0, 2], num_pos_feats=16, initializer_range=0.02,
        ),
        prompt_encoder_config=_PROMPT_ENCODER,
        mask_decoder_config=_MASK_DECODER | decoder,
    )  # fmt: skip
    image_processor = SamImageProcessor(
        size={"longest_edge": SIDE},
        mask_size={"longest_edge": SIDE // 2},
        pad_size={"height": SIDE, "width": SIDE},
        mask_pad_size={"height": SIDE // 2, "width": SIDE // 2},
    )
    return model_class(config), processor_class(image_processor)


def _sam() -> tuple[Any, Any]:
    from transformers import SamConfig, SamModel, SamProcessor

    return _sam_like(SamConfig, SamModel, SamProcessor)


def _sam_hq() -> tuple[Any, Any]:
    from transformers import SamHQConfig, SamHQModel, SamHQProcessor

    return _sam_like(SamHQConfig, SamHQModel, SamHQProcessor, vit_dim=32)


_PYRAMID = dict(
    fpn_hidden_size=32, backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
)  # fmt: skip


def _sam2_parts() -> dict[str, Any]:
    vision = dict(
        backbone_config=dict(
            model_type="sam2_hiera_det_model", hidden_size=8, image_size=[SIDE, SIDE],
            blocks_per_stage=[1, 1, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
            num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 2, 4, 2],
            global_attention_blocks=[3],
        ),
        backbone_channel_list=[64, 32, 16, 8],
        **_PYRAMID,
    )  # fmt: skip
    prompt_encoder = _PROMPT_ENCODER | {"patch_size": 16}
    return dict(
        vision_config={"model_type": "sam2_vision_model"} | vision,
        prompt_encoder_config=prompt_encoder,
        mask_decoder_config=_MASK_DECODER,
    )


def _sam2_image_processor() -> Any:
    from transformers import Sam2ImageProcessor

    return Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}, mask_size={"height": SIDE // 4, "width": SIDE // 4})


def _sam2() -> tuple[Any, Any]:
    from transformers import Sam2Config, Sam2Model, Sam2Processor

    return Sam2Model(Sam2Config(**_sam2_parts())), Sam2Processor(_sam2_image_processor())


_MEMORY = dict(
    memory_attention_hidden_size=32, memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=32,
    memory_encoder_hidden_size=32, memory_encoder_output_channels=16, mask_downsampler_embed_dim=32,
    memory_fuser_num_layers=1, memory_fuser_embed_dim=32, memory_fuser_intermediate_dim=32, image_size=SIDE,
)  # fmt: skip


def _sam2_video() -> tuple[Any, Any]:
    """Like facebook/sam2.1-hiera-* on the hub: the whole video model with its processor."""
    from transformers import Sam2VideoConfig, Sam2VideoModel, Sam2VideoProcessor, Sam2VideoVideoProcessor

    config = Sam2VideoConfig(**_sam2_parts(), **_MEMORY, memory_attention_rope_feat_sizes=[SIDE // 16] * 2)
    return Sam2VideoModel(config), Sam2VideoProcessor(_sam2_image_processor(), Sam2VideoVideoProcessor())


def _edgetam_parts() -> dict[str, Any]:
    backbone = dict(
        model_type="timm_wrapper",
        architecture="repvit_m0_9",
        do_pooling=False,
        num_classes=2,
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    vision = dict(backbone_config=backbone, backbone_channel_list=[384, 192, 96, 48], **_PYRAMID)
    return _sam2_parts() | {"vision_config": {"model_type": "edgetam_vision_model"} | vision}


def _edgetam() -> tuple[Any, Any]:
    from transformers import EdgeTamConfig, EdgeTamModel, Sam2Processor

    return EdgeTamModel(EdgeTamConfig(**_edgetam_parts())), Sam2Processor(_sam2_image_processor())


def _edgetam_video() -> tuple[Any, Any]:
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, Sam2VideoProcessor, Sam2VideoVideoProcessor

    config = EdgeTamVideoConfig(**_edgetam_parts(), **_MEMORY)
    return EdgeTamVideoModel(config), Sam2VideoProcessor(_sam2_image_processor(), Sam2VideoVideoProcessor())


# --- SAM 3 ----------------------------------------------------------------------------------------------------------

SAM3_SIDE = 112  # 8 x 8 patches of 14 pixels
_SAM3_VISION = dict(
    model_type="sam3_vision_model",
    backbone_config=dict(
        model_type="sam3_vit_model", hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        image_size=SAM3_SIDE, patch_size=14, window_size=4, global_attn_indexes=[1, 3], pretrain_image_size=56,
    ),
    fpn_hidden_size=32,
    backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
)  # fmt: skip


def _sam3_parts(text: dict[str, Any]) -> dict[str, Any]:
    layers = dict(hidden_size=32, num_layers=2, num_attention_heads=4, intermediate_size=64)
    return dict(
        vision_config=_SAM3_VISION,
        text_config=dict(
            hidden_size=32, intermediate_size=64, projection_dim=32, num_hidden_layers=2, num_attention_heads=4,
            **text,
        ),
        geometry_encoder_config=layers | {"num_layers": 1},
        detr_encoder_config=layers,
        detr_decoder_config=layers | {"num_queries": 20},
        mask_decoder_config=dict(hidden_size=32, num_attention_heads=4),
    )  # fmt: skip


def _sam3_clip(tokenizer: Any) -> dict[str, Any]:
    return dict(
        model_type="clip_text_model", vocab_size=len(tokenizer), max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip


def _sam3_image_processor() -> Any:
    from transformers import Sam3ImageProcessor

    return Sam3ImageProcessor(size={"height": SAM3_SIDE, "width": SAM3_SIDE}, mask_size={"height": 32, "width": 32})


def _sam3() -> tuple[Any, Any]:
    from transformers import Sam3Config, Sam3Model, Sam3Processor

    tokenizer = _clip_tokenizer(32)
    return Sam3Model(Sam3Config(**_sam3_parts(_sam3_clip(tokenizer)))), Sam3Processor(
        _sam3_image_processor(), tokenizer
    )


def _sam3_lite_text() -> tuple[Any, Any]:
    from transformers import Sam3LiteTextConfig, Sam3LiteTextModel, Sam3Processor

    tokenizer = _clip_tokenizer(32)
    text = dict(vocab_size=len(tokenizer), max_position_embeddings=24)
    return Sam3LiteTextModel(Sam3LiteTextConfig(**_sam3_parts(text))), Sam3Processor(_sam3_image_processor(), tokenizer)


def _sam3_tracker_parts() -> dict[str, Any]:
    prompt_encoder = _PROMPT_ENCODER | {"image_size": SAM3_SIDE, "patch_size": 14}
    return dict(
        vision_config=_SAM3_VISION, prompt_encoder_config=prompt_encoder, mask_decoder_config=_MASK_DECODER
    )  # fmt: skip


def _sam3_tracker() -> tuple[Any, Any]:
    from transformers import Sam3TrackerConfig, Sam3TrackerModel, Sam3TrackerProcessor

    return Sam3TrackerModel(Sam3TrackerConfig(**_sam3_tracker_parts())), Sam3TrackerProcessor(_sam3_image_processor())


def _sam3_video() -> tuple[Any, Any]:
    """Like facebook/sam3 on the hub, a detector and a tracker, but as transformers saves it: the prefix of the tracker
    stands twice.
    """
    from transformers import Sam2VideoVideoProcessor, Sam3VideoConfig, Sam3VideoModel, Sam3VideoProcessor

    tokenizer = _clip_tokenizer(32)
    memory = _MEMORY | {"image_size": SAM3_SIDE, "memory_attention_rope_feat_sizes": [8, 8]}
    config = Sam3VideoConfig(
        detector_config=dict(model_type="sam3", **_sam3_parts(_sam3_clip(tokenizer))),
        tracker_config=dict(model_type="sam3_tracker_video", **_sam3_tracker_parts(), **memory),
        low_res_mask_size=32,
    )
    processor = Sam3VideoProcessor(_sam3_image_processor(), Sam2VideoVideoProcessor(), tokenizer)
    return Sam3VideoModel(config), processor


_BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "grounding_dino": _grounding_dino,
    "mm_grounding_dino": _mm_grounding_dino,
    "owlv2": _owlv2,
    "omdet_turbo": _omdet_turbo,
    "sam": _sam,
    "sam_hq": _sam_hq,
    "sam2": _sam2,
    "sam2_video": _sam2_video,
    "edgetam": _edgetam,
    "edgetam_video": _edgetam_video,
    "sam3": _sam3,
    "sam3_lite_text": _sam3_lite_text,
    "sam3_tracker": _sam3_tracker,
    "sam3_video": _sam3_video,
}
