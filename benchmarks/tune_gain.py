"""F1 of tuned thresholds where they were tuned, as cross-validation expects it, and on fresh images.

    labeler demo -o demo --scenes 360
    python benchmarks/tune_gain.py demo [--tuned-on 60]

Each run tunes on the next 60 scenes and measures on all others.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from labeler.formats.ground_truth import read_ground_truth
from labeler.ground_truth import GroundTruth
from labeler.quality_config import QualityConfig
from workflows.dataset.labeled import Labeled, open_labeled
from workflows.evaluation.evaluate import evaluate
from workflows.evaluation.tune import tune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="a folder made by `labeler demo`")
    parser.add_argument("--tuned-on", type=int, default=60, metavar="N", help="scenes to tune on")
    args = parser.parse_args()
    labeled, truth = open_labeled(args.demo / "dataset"), read_ground_truth(args.demo / "truth.json")
    scenes = sorted(truth.images, key=lambda image: image.name)
    rows = []
    print("scenes      default  tuned here  expected  default on fresh  tuned on fresh")
    for start in range(0, len(scenes) - args.tuned_on + 1, args.tuned_on):
        stop = start + args.tuned_on
        seen = replace(truth, images=tuple(scenes[start:stop]))
        fresh = replace(truth, images=tuple(scenes[:start] + scenes[stop:]))

        tuned = tune(labeled, seen)
        total, now = tuned.total, labeled.export.quality
        in_sample = total.before.f1, total.fitted.f1, total.expected.f1
        figures = (*in_sample, *(f1(labeled, quality, fresh) for quality in (now, tuned.quality)))
        rows.append(figures)
        print_row(f"{start} to {stop - 1}", figures)
    print_row("mean", tuple(map(fmean, zip(*rows, strict=True))))


def f1(labeled: Labeled, quality: QualityConfig, truth: GroundTruth) -> float:
    exported = replace(labeled, export=replace(labeled.export, quality=quality))
    return evaluate(exported, truth).measured.total.f1 or 0.0


def print_row(name: str, figures: tuple[float, ...]) -> None:
    print(f"{name:10}", *(f"{each:{width}.4f}" for each, width in zip(figures, (8, 11, 9, 17, 15), strict=True)))


if __name__ == "__main__":
    main()
