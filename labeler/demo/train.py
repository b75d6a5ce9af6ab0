"""Trains the embedded weights of the demo from scratch, on the scenes of this package.

    d="labeler/demo/weights/detector --batch-size 12"
    s=labeler/demo/weights/segmenter
    python -m labeler.demo.train detector  --minutes 97 --output $d
    python -m labeler.demo.train detector  --minutes 19 --output $d --resume
    python -m labeler.demo.train detector  --minutes 85 --output $d --resume --learning-rate 3e-4
    python -m labeler.demo.train segmenter --minutes 15 --output $s --side 160
    python -m labeler.demo.train segmenter --minutes 70 --output $s --resume

These commands produced the embedded weights, each on one CPU core. If there is a GPU, it is used. Each run writes a
checkpoint folder (configuration, weights, processor) that ``from_pretrained``, and so ``labeler --detector FOLDER``,
can read. ``--resume`` starts from the weights in ``--output``.

The embedded segmenter is from before its training had points. To teach it points, add ``--resume --spread-masks`` once.

``tiny_detector.py`` and ``tiny_segmenter.py`` describe the models and how their training differs from the published
one.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import MMGroundingDinoForObjectDetection, Sam2Model

from labeler.demo.scene_pool import Step, scene_pool
from labeler.demo.scenes import PAIRS, SEEN_PAIRS
from labeler.demo.tiny_detector import demo_tokenizer, detector_step, new_detector, save_detector
from labeler.demo.tiny_segmenter import (
    SIDE,
    new_segmenter,
    save_segmenter,
    segmenter_config,
    segmenter_step,
    spread_masks,
)


@torch.no_grad()
def update_average(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
    """One step of an exponential moving average, in place, after ``count`` earlier steps.

    It spans a tenth of the steps so far, and at most 500. With a span of 500 from the start, a short run would end with
    weights close to those that it started from.
    """
    decay = min(0.998, (1 + int(count)) / (10 + int(count)))
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, 1 - decay)


def fit(model: nn.Module, step: Step, save: Callable[[nn.Module], None], minutes: float, learning_rate: float) -> None:
    """Train with AdamW and a cosine schedule over ``minutes`` of wall-clock time.

    ``save`` gets the exponential moving average of the weights.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4)
    average = AveragedModel(model, multi_avg_fn=update_average)
    started = reported = time.monotonic()
    count, recent = 0, []
    while (progress := (time.monotonic() - started) / (60 * minutes)) < 1:
        warm = min(1.0, max((count + 1) / 200, 20 * progress))
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
    parser.add_argument("model", choices=["detector", "segmenter"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--scenes", type=int, default=10000, help="number of scenes to train on")
    parser.add_argument("--pool", type=Path, default=Path("scene-pool"), help="folder of the scenes (0.4 MB per scene)")
    parser.add_argument("--side", type=int, default=SIDE, help="input side of the segmenter, a multiple of 32 pixels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--spread-masks", action="store_true", help="for weights trained on boxes alone; see its code")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    every_pair = scene_pool(args.pool / "all", args.scenes // 2, args.seed, PAIRS)
    if args.model == "detector":
        # Scenes for captions of colours and shapes do not contain held-out pairs. These captions never name them, so
        # the detector would learn that they are background.
        seen_pairs = scene_pool(args.pool / "seen", args.scenes, args.seed + 1, SEEN_PAIRS)
        tokenizer = demo_tokenizer()
        detector = (
            MMGroundingDinoForObjectDetection.from_pretrained(args.output, dtype=torch.float32, trust_remote_code=False)
            if args.resume
            else new_detector(tokenizer)
        ).to(device)
        step = detector_step((seen_pairs, every_pair), tokenizer, args.batch_size, device, rng)
        fit(
            detector, step, lambda m: save_detector(m, tokenizer, args.output), args.minutes, args.learning_rate or 4e-4
        )
        return
    segmenter = (
        Sam2Model.from_pretrained(
            args.output, config=segmenter_config(args.side), dtype=torch.float32, trust_remote_code=False
        )
        if args.resume
        else new_segmenter(args.side)
    )
    if args.spread_masks:
        spread_masks(segmenter)
    segmenter.set_attn_implementation("eager")  # faster than fused kernels, because there are only a few prompt tokens
    step = segmenter_step(every_pair, args.side, args.batch_size, device, rng)
    fit(segmenter.to(device), step, lambda m: save_segmenter(m, args.output), args.minutes, args.learning_rate or 1e-3)


if __name__ == "__main__":
    main()
