"""The detector of the demo: a small MM-Grounding-DINO, its tokenizer, and its training step.

Training differs from that of the published models as follows. The scale of the fusion layers starts at 0.3 instead of
1e-4, so that text influences the image within hundreds of steps. The set loss is applied to the decoder and to the
dense encoder outputs, which get no gradient from the loss of transformers. All images of a batch share one caption.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert
from transformers import (
    BertConfig,
    BertTokenizer,
    ConvNextConfig,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
)

from labeler.demo.losses import set_loss
from labeler.demo.scene_pool import IMAGE_MEAN, IMAGE_STD, SceneBatch, ScenePool, Step
from labeler.demo.scenes import COLOURS, PAIRS, SEEN_PAIRS, SHAPES, class_name

SIDE = 160
PHRASES = 28


def demo_tokenizer() -> BertTokenizer:
    """A WordPiece tokenizer with the demo's words, letters and digits, and with BERT's ids for [CLS], [SEP], . and ?"""
    vocabulary = {f"[unused{index}]": index for index in range(1030)}
    for token, index in {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}.items():
        vocabulary = {key: value for key, value in vocabulary.items() if value != index} | {token: index}
    for token, index in {".": 1012, "?": 1029}.items():
        vocabulary = {key: value for key, value in vocabulary.items() if value != index} | {token: index}
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + [str(digit) for digit in range(10)]
    for token in [*COLOURS, *SHAPES, *letters, *(f"##{letter}" for letter in letters), "-", "'", ","]:
        vocabulary[token] = len(vocabulary)
    return BertTokenizer(vocab=dict(sorted(vocabulary.items(), key=lambda item: item[1])), do_lower_case=True)


def new_detector(tokenizer: BertTokenizer) -> MMGroundingDinoForObjectDetection:
    """An untrained detector."""
    config = MMGroundingDinoConfig(
        backbone_config=ConvNextConfig(
            hidden_sizes=[32, 64, 128, 160], depths=[1, 2, 3, 1], layer_scale_init_value=0.5, out_indices=[2, 3, 4]
        ),
        text_config=BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=128,
            max_position_embeddings=256,
            hidden_dropout_prob=0.0,
        ),
        d_model=96,
        encoder_n_points=2,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=40,
        num_feature_levels=3,
        dropout=0.0,
        fusion_droppath=0.0,
    )
    model = MMGroundingDinoForObjectDetection(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("vision_param", "text_param")):
            nn.init.constant_(parameter, 0.3)
    return model


def caption_for(batch: SceneBatch, names: list[list[str]], rng: np.random.Generator) -> list[str]:
    """The phrases of the caption of a batch, in random order: mostly names of objects in it, and some that are absent.

    Args:
        names: for each image, the names of its objects.
    """
    kind = class_name if all(" " in name for row in names for name in row) else None
    everything = [class_name(pair) for pair in SEEN_PAIRS] if kind else list(SHAPES)
    present = list({name for row in names for name in row})
    count = min(int(rng.choice([6, 12, 20, PHRASES, PHRASES])), len(everything) - int(rng.integers(3)))
    chosen = list(rng.permutation(present)[: math.ceil(0.8 * count)])
    absent = [name for name in everything if name not in chosen]
    chosen += list(rng.permutation(absent)[: count - len(chosen)])
    return [str(name) for name in rng.permutation(chosen)]


def detector_step(
    pools: tuple[ScenePool, ScenePool], tokenizer: BertTokenizer, size: int, device: str, rng: np.random.Generator
) -> Step:
    """The training step of the detector.

    Args:
        pools: scenes for captions of colours and shapes, and scenes for captions of shapes alone.
        size: images per batch.
    """
    streams = [pool.batches(size, rng) for pool in pools]

    def step(model: Any) -> Tensor:
        bare = rng.random() < 0.25
        batch = next(streams[int(bare)])
        names = [[PAIRS[i][1] if bare else class_name(PAIRS[i]) for i in ids] for ids in batch.pair_ids]
        phrases = caption_for(batch, names, rng)
        words = [phrase.split() for phrase in phrases]
        text = tokenizer(" . ".join(phrases) + " .", return_tensors="pt").to(device)
        spans = torch.zeros(len(phrases), text.input_ids.shape[1])
        start = 1
        for row, phrase_words in enumerate(words):  # each demo word is one token, each "." another
            spans[row, start : start + len(phrase_words)] = 1
            start += len(phrase_words) + 1
        token_maps, boxes = [], []
        for image_names, image_boxes in zip(names, batch.boxes_xyxy, strict=True):
            named = [i for i, name in enumerate(image_names) if name in phrases]
            token_maps.append(spans[[phrases.index(image_names[i]) for i in named]].to(device))
            boxes.append(box_convert(image_boxes[named], "xyxy", "cxcywh").to(device))
        pixels = batch.pixel_values(SIDE, device)
        repeated = {key: value.expand(len(pixels), -1) for key, value in text.items()}
        outputs = model(pixel_values=pixels, **repeated)
        length = text.input_ids.shape[1]
        loss = set_loss(outputs.logits[..., :length], outputs.pred_boxes, token_maps, boxes)
        dense = outputs.enc_outputs_coord_logits
        usable = dense.isfinite().all(-1)[0]  # there are no proposals at the image border
        loss = loss + set_loss(
            outputs.enc_outputs_class[:, usable, :length], dense[:, usable].sigmoid(), token_maps, boxes, copies=3
        )
        first = outputs.intermediate_hidden_states[:, 0]
        first_logits = model.class_embed[0](
            first, outputs.encoder_last_hidden_state_text, repeated["attention_mask"].bool()
        )
        first_boxes = (model.bbox_embed[0](first) + torch.special.logit(outputs.init_reference_points, 1e-5)).sigmoid()
        return loss + set_loss(first_logits[..., :length], first_boxes, token_maps, boxes)

    return step


def save_detector(model: Any, tokenizer: BertTokenizer, output: Path) -> None:
    """Write the detector and its processor as a checkpoint folder."""
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessor(
            size={"shortest_edge": SIDE, "longest_edge": SIDE},
            image_mean=IMAGE_MEAN,
            image_std=IMAGE_STD,
        ),
        tokenizer,
    )
    copy.deepcopy(model).half().save_pretrained(output)  # half the size; it is loaded as fp32
    processor.save_pretrained(output)
