"""Train the embedded demo weights from nothing, on scenes of this package alone.

    python -m labeler.demo.train detector  --minutes 97 --batch-size 12 --output labeler/demo/weights/detector
    python -m labeler.demo.train sam       --minutes 48 --output sam
    python -m labeler.demo.train segmenter --minutes 22 --decoder sam --output labeler/demo/weights/segmenter

Runs on a GPU where there is one, else on the CPU. Each run writes an ordinary checkpoint folder (configuration,
weights, processor) that ``from_pretrained`` and therefore ``labeler --detector FOLDER`` reads. ``--resume`` starts
from the weights in ``--output``. What departs from a plain fresh model, and why:

* Detector: the fusion layers' scale starts at 0.3, not 1e-4, so that text reaches the image within hundreds of steps.
  The set loss is put on the decoder *and* on the dense encoder outputs, which transformers' own loss leaves without
  gradient. All images of a batch share one caption.
* SAM: a fresh ``SamModel`` has two unrelated positional embeddings where the published one shares them; here they are
  tied before training, with standard deviation 1 as in segment-anything. ``transformers`` draws all weights with
  standard deviation 0.02, meant for layers of 768 channels; at 64 they stall, so Xavier's scale is used. Queries and
  keys of the decoder's cross attention start equal, so that the corner of a box attends to its own place.
* Segmenter: a small SAM 2, whose decoder sees features of a quarter of the image's resolution and so draws finer edges.
  Its decoder starts from the SAM trained before, which has learned what a box means; from nothing that takes longest.
"""

from __future__ import annotations

import argparse
import copy
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.ops import box_convert
from transformers import (
    BertConfig,
    BertTokenizer,
    ConvNextConfig,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
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

from labeler.demo.losses import mask_loss, set_loss
from labeler.demo.scene_pool import SceneBatch, ScenePool, scene_pool
from labeler.demo.scenes import COLOURS, PAIRS, SEEN_PAIRS, SHAPES, class_name

DETECTOR_SIDE = 160
SAM_SIDE = 192
SEGMENTER_SIDE = 320
DECODER: dict[str, Any] = dict(
    hidden_size=64, num_hidden_layers=2, num_attention_heads=4, mlp_dim=128, iou_head_hidden_dim=64
)
PHRASES = 28
IMAGE_MEAN, IMAGE_STD = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
Step = Callable[[Any], Tensor]


# --- detector ---------------------------------------------------------------------------------------------------


def demo_tokenizer() -> BertTokenizer:
    """WordPiece over the demo's words and the letters, with BERT's ids for [CLS] [SEP] . ? (the separators)."""
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
    """Phrases for one batch: mostly names of objects that are there, the rest absent, in random order."""
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
    streams = [pool.batches(size, rng) for pool in pools]
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (IMAGE_MEAN, IMAGE_STD))

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
        pixels = functional.interpolate(
            batch.images.to(device), size=(DETECTOR_SIDE, DETECTOR_SIDE), mode="bilinear", antialias=True
        )
        pixels = (pixels.float() / 255 - mean) / std
        repeated = {key: value.expand(len(pixels), -1) for key, value in text.items()}
        outputs = model(pixel_values=pixels, **repeated)
        length = text.input_ids.shape[1]
        loss = set_loss(outputs.logits[..., :length], outputs.pred_boxes, token_maps, boxes)
        dense = outputs.enc_outputs_coord_logits
        usable = dense.isfinite().all(-1)[0]  # locations on the rim have no proposal
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
    processor = GroundingDinoProcessor(
        GroundingDinoImageProcessor(
            size={"shortest_edge": DETECTOR_SIDE, "longest_edge": DETECTOR_SIDE},
            image_mean=IMAGE_MEAN,
            image_std=IMAGE_STD,
        ),
        tokenizer,
    )
    copy.deepcopy(model).half().save_pretrained(output)  # half the size; loaded as fp32 unless asked otherwise
    processor.save_pretrained(output)


# --- segmenter --------------------------------------------------------------------------------------------------


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


# --- both -------------------------------------------------------------------------------------------------------


def fit(model: nn.Module, step: Step, save: Callable[[nn.Module], None], minutes: float, learning_rate: float) -> None:
    """AdamW under a cosine that spans the wall-clock budget; what is saved is the moving average of the weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998))  # type: ignore[no-untyped-call]
    started = reported = time.monotonic()
    count, recent = 0, []
    while (progress := (time.monotonic() - started) / (60 * minutes)) < 1:
        warm = min(1.0, (count + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        loss = step(model)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(model)
        count += 1
        recent.append(loss.item())
        if count % 100 == 0:
            print(f"step {count}  {progress:.1%}  loss {np.mean(recent):.4f}  {time.monotonic() - started:.0f} s")
            recent = []
        if time.monotonic() - reported > 300:
            save(average.module)
            reported = time.monotonic()
    save(average.module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["detector", "sam", "segmenter"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--scenes", type=int, default=8000, help="scenes in the training pool")
    parser.add_argument("--pool", type=Path, default=Path("scene-pool"), help="where the pool is kept (0.4 MB a scene)")
    parser.add_argument("--decoder", type=Path, help="the SAM that the segmenter's decoder starts from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    every_pair = scene_pool(args.pool / "all", args.scenes // 2, args.seed, PAIRS)
    if args.model == "detector":
        # Scenes for pair captions leave the held-out pairs out: unnamed, they would be taught as background.
        seen_pairs = scene_pool(args.pool / "seen", args.scenes, args.seed + 1, SEEN_PAIRS)
        tokenizer = demo_tokenizer()
        detector = (
            MMGroundingDinoForObjectDetection.from_pretrained(args.output, dtype=torch.float32)
            if args.resume
            else new_detector(tokenizer)
        ).to(device)
        step = detector_step((seen_pairs, every_pair), tokenizer, args.batch_size, device, rng)
        fit(
            detector, step, lambda m: save_detector(m, tokenizer, args.output), args.minutes, args.learning_rate or 4e-4
        )
        return
    if args.resume:
        auto = SamModel if args.model == "sam" else Sam2Model
        segmenter = auto.from_pretrained(args.output, dtype=torch.float32)
    elif args.model == "sam":
        segmenter = new_sam()
    elif args.decoder:
        segmenter = new_segmenter(args.decoder)
    else:
        parser.error("segmenter needs --decoder, the output of `train sam`")
    side = SAM_SIDE if args.model == "sam" else SEGMENTER_SIDE
    step = segmenter_step(every_pair, side, args.batch_size, device, rng)
    fit(segmenter.to(device), step, lambda m: save_segmenter(m, args.output), args.minutes, args.learning_rate or 2e-3)


if __name__ == "__main__":
    main()
