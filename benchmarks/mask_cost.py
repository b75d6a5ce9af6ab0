"""CPU time from mask logits to cleaned RLE, against an earlier commit of this repository, in the same run.

    python benchmarks/mask_cost.py --against COMMIT [--rounds 5]

A small SAM segments boxes; in place of its mask logits come those of ellipses in the boxes, 256 x 256 as from a
full-size SAM. Both versions take turns, each on one thread. CPU seconds are counted, those of the model left out, so
that other work on the machine disturbs little. The last line is of the embedded segmenter alone, its decoder included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from two_versions import ROOT, Version, unpacked

# width, height, boxes, their sides in pixels at least and at most
CASES = {
    "4K, 30 masks": (3840, 2160, 30, 150, 700),
    "1080p, 30 masks": (1920, 1080, 30, 75, 350),
    "4K, 300 masks": (3840, 2160, 300, 75, 700),
}


def boxes_of(case: str) -> Any:
    import numpy as np

    width, height, count, least, most = CASES[case]
    rng = np.random.default_rng(0)
    sides = rng.uniform(least, most, (count, 2))
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def ellipses(boxes: Any, case: str) -> Any:
    """Mask logits float32 (1, n, 1, 256, 256), as SAM lays out an image in its frame."""
    import torch

    width, height = CASES[case][:2]
    scaled = torch.from_numpy(boxes) * (256 / max(width, height))
    left, top, right, bottom = (scaled[:, side, None, None] for side in range(4))
    x, y = torch.arange(256) + 0.5, (torch.arange(256) + 0.5)[:, None]
    distance = ((2 * x - left - right) / (right - left)) ** 2 + ((2 * y - top - bottom) / (bottom - top)) ** 2
    return (8 * (1 - distance)).clamp(-20, 20)[None, :, None]


def serve() -> None:
    """Measures a case for each line of the input."""
    import numpy as np
    import torch
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor, SamVisionConfig

    from labeler.models.runtime import Runtime
    from labeler.models.segmenters.sam import SamSegmenter
    from labeler.models.segmenters.segmenter import SegmentPrompts

    torch.set_num_threads(1)
    torch.manual_seed(0)
    vision = SamVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, global_attn_indexes=[0])
    model = SamModel(SamConfig(vision_config=vision)).eval()
    logits = torch.zeros(0)
    first, entered, in_model = 0, 0.0, 0.0

    def enter(*_: Any) -> None:
        nonlocal entered
        entered = time.thread_time()

    def replace(_: Any, __: Any, outputs: Any) -> Any:
        nonlocal first, in_model
        in_model += time.thread_time() - entered
        count = outputs.pred_masks.shape[1]
        outputs.pred_masks = logits[:, first : first + count]
        first += count
        return outputs

    model.register_forward_pre_hook(enter)
    model.register_forward_hook(replace)
    segmenter = SamSegmenter(model, SamProcessor(SamImageProcessor()), Runtime())
    for line in sys.stdin:
        case = line.strip()
        width, height = CASES[case][:2]
        boxes = boxes_of(case)
        logits, first, in_model = ellipses(boxes, case), 0, 0.0
        encoded = segmenter.encode(np.zeros((height, width, 3), np.uint8))
        before, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        masks = segmenter.decode(encoded, SegmentPrompts.of_boxes(boxes))
        seconds = time.process_time() - before - in_model
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
        print(json.dumps({"seconds": seconds, "mib": grown, "areas": [mask.area for mask in masks]}), flush=True)


def embedded() -> None:
    """Measures the embedded segmenter with 300 boxes on a 4K image, in a process of its own."""
    import numpy as np
    import torch

    from labeler.models.config import ModelConfig
    from labeler.models.loading import load_segmenter
    from labeler.models.segmenters.segmenter import SegmentPrompts

    torch.set_num_threads(1)
    segmenter = load_segmenter(ModelConfig(detector="", segmenter="embedded:segmenter", device="cpu"))
    case = "4K, 300 masks"
    width, height = CASES[case][:2]
    segmenter.decode(segmenter.encode(np.zeros((64, 64, 3), np.uint8)), SegmentPrompts.of_boxes(boxes_of(case)[:0]))
    encoded = segmenter.encode(np.zeros((height, width, 3), np.uint8))
    before, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    segmenter.decode(encoded, SegmentPrompts.of_boxes(boxes_of(case)))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    seconds = time.process_time() - before
    print(f"embedded segmenter, {case}: {seconds:.1f} CPU s and {grown:.0f} MiB above the encoded image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="the earlier version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--embedded", action="store_true", help="only the embedded segmenter")
    args = parser.parse_args()
    if args.serve:
        serve()
        return
    if args.embedded:
        embedded()
        return
    with tempfile.TemporaryDirectory() as folder:
        trees = (ROOT, unpacked(args.against, Path(folder)))
        now, before = (Version(tree, __file__, "--serve") for tree in trees)
        print("| masks | CPU s now | before | before / now | MiB more at the peak, now | before | area that differs |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for case in CASES:
            pairs = [(now.measured(case), before.measured(case)) for _ in range(args.rounds)]
            ratio = statistics.median(old["seconds"] / new["seconds"] for new, old in pairs)
            areas = list(zip(pairs[0][0]["areas"], pairs[0][1]["areas"], strict=True))
            differs = sum(abs(new - old) for new, old in areas) / sum(old for _, old in areas)
            print(
                f"| {case} | {statistics.median(new['seconds'] for new, _ in pairs):.2f} "
                f"| {statistics.median(old['seconds'] for _, old in pairs):.2f} | {ratio:.1f} "
                f"| {pairs[0][0]['mib']:.0f} | {pairs[0][1]['mib']:.0f} | {differs:.1e} |",
                flush=True,
            )
        now.close()
        before.close()
    subprocess.run([sys.executable, __file__, "--embedded"], check=True)


if __name__ == "__main__":
    main()
