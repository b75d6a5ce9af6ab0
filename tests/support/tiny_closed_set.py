"""Tiny checkpoints of detectors for a fixed list of classes, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

CLASSES = {0: "cat", 1: "traffic light", 2: "person", 3: "dog"}
LABELS = dict(id2label=CLASSES, label2id={name: index for index, name in CLASSES.items()})


def write_closed_set(family: str, folder: Path) -> Path:
    """Write a tiny model of ``family`` with its processor, the same every time."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(3)
        model, processor = _BUILDERS[family]()
        for name, parameter in model.named_parameters():
            if name.endswith(("query_position_embeddings.weight", "detection_tokens")):
                torch.nn.init.normal_(parameter, std=2.0)  # otherwise all queries find the same
            elif parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=1.5 / parameter[0].numel() ** 0.5)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _yolos() -> tuple[Any, Any]:
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessor

    config = YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=[64, 96],
        patch_size=16, num_detection_tokens=20, **LABELS,
    )  # fmt: skip
    return YolosForObjectDetection(config), YolosImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})


def _detr() -> tuple[Any, Any]:
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    config = DetrConfig(
        backbone_config=ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage4"],
        ),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, num_queries=20, **LABELS,
    )  # fmt: skip
    return DetrForObjectDetection(config), DetrImageProcessor(size={"shortest_edge": 96, "longest_edge": 160})


def _rt_detr() -> tuple[Any, Any]:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessor, RTDetrResNetConfig

    config = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_hidden_dim=32, encoder_in_channels=[8, 16, 16], encoder_ffn_dim=64, encoder_attention_heads=2,
        encode_proj_layers=[2], d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=64, decoder_layers=2,
        decoder_attention_heads=2, decoder_n_points=2, num_queries=20, num_denoising=0, **LABELS,
    )  # fmt: skip
    return RTDetrForObjectDetection(config), RTDetrImageProcessor(size={"height": 64, "width": 64})


def _d_fine() -> tuple[Any, Any]:
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config, RTDetrImageProcessor

    config = DFineConfig(
        backbone_config=HGNetV2Config(
            embedding_size=8, stem_channels=[3, 8, 8], hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1],
            stage_in_channels=[8, 8, 8, 16], stage_mid_channels=[8, 8, 8, 8], stage_out_channels=[8, 8, 16, 16],
            stage_num_blocks=[1, 1, 1, 1], stage_numb_of_layers=[1, 1, 1, 1],
            out_features=["stage2", "stage3", "stage4"],
        ),
        encoder_hidden_dim=32, encoder_in_channels=[8, 16, 16], encoder_ffn_dim=64, encoder_attention_heads=2,
        encode_proj_layers=[2], d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=64, decoder_layers=2,
        decoder_attention_heads=2, decoder_n_points=2, num_queries=20, num_denoising=0, max_num_bins=8, **LABELS,
    )  # fmt: skip
    return DFineForObjectDetection(config), RTDetrImageProcessor(size={"height": 64, "width": 64})


def _rf_detr() -> tuple[Any, Any]:
    from transformers import RfDetrConfig, RfDetrDinov2Config, RfDetrForObjectDetection, RfDetrImageProcessor

    config = RfDetrConfig(
        backbone_config=RfDetrDinov2Config(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=8, num_windows=2,
            out_indices=[1, 2],
        ),
        d_model=32, decoder_ffn_dim=64, decoder_layers=2, decoder_n_points=2, decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2, num_queries=20, group_detr=1, c2f_num_blocks=1, **LABELS,
    )  # fmt: skip
    return RfDetrForObjectDetection(config), RfDetrImageProcessor(size={"height": 64, "width": 64})


_BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "detr": _detr, "yolos": _yolos, "rt_detr": _rt_detr, "d_fine": _d_fine, "rf_detr": _rf_detr,
}  # fmt: skip
