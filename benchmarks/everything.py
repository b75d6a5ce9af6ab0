"""Share of the true objects that ``--everything`` and single points find with the demo weights, on fresh scenes.

    python benchmarks/everything.py [--scenes 100] [--segmenter FOLDER] [--points-per-side 32]

A true object is found if a mask has the given IoU with it. "by a point" asks with one point on each object, the pixel
deepest inside it, and takes the best of three masks; "by its box" is the same segmenter with the true box.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import cv2
import numpy as np

from labeler.demo.scenes import Scene, make_scene, scene_rng
from labeler.geometry.masks import Rle, mask_iou, mask_to_rle, rle_box_xyxy
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.kinds.everything import EverythingKind
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.loading import load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts
from ontologies import ClassSpec, Ontology

FRESH_SEED = 20_000  # far from the training seeds
THRESHOLDS = (0.5, 0.75)


def true_masks(scene: Scene) -> list[Rle]:
    return [mask_to_rle(scene.mask(index)) for index in range(len(scene.pairs))]


def point_prompts(scene: Scene) -> SegmentPrompts:
    deepest = []
    for index in range(len(scene.pairs)):
        distance = cv2.distanceTransform(np.pad(scene.mask(index), 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(distance.argmax(), distance.shape)
        deepest.append([[x, y]])
    points = np.array(deepest, np.float32)
    return SegmentPrompts(points_xy=points, point_labels=np.ones(points.shape[:2], int), multimask=True)


def line(name: str, truth: Sequence[Sequence[Rle]], found: Sequence[Sequence[Rle]]) -> str:
    best = np.concatenate(
        [
            mask_iou(objects, masks).max(axis=1) if masks else np.zeros(len(objects))
            for objects, masks in zip(truth, found, strict=True)
        ]
    )
    shares = "  ".join(f"{(best >= threshold).mean():9.3f}" for threshold in THRESHOLDS)
    return f"{name:14}{shares}   {sum(map(len, found)) / len(truth):6.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--segmenter", default=PRESETS["demo"].segmenter)
    parser.add_argument("--points-per-side", type=int, default=32)
    parser.add_argument("--point-mask-score", type=float, default=0.88)
    parser.add_argument("--point-stability", type=float, default=0.95)
    args = parser.parse_args()
    config = ModelConfig("", args.segmenter, device="cpu")
    scenes = [make_scene(scene_rng(FRESH_SEED, index)) for index in range(args.scenes)]
    truth = [true_masks(scene) for scene in scenes]
    images = [scene.image for scene in scenes]
    segmenter = load_segmenter(config)
    boxes = [SegmentPrompts.of_boxes(np.array([rle_box_xyxy(rle) for rle in rles], np.float32)) for rles in truth]
    print(f"{'':14}IoU >= {THRESHOLDS[0]}  IoU >= {THRESHOLDS[1]}   masks per image")
    for name, prompts in (("by its box", boxes), ("by a point", [point_prompts(scene) for scene in scenes])):
        found = [[mask.rle for mask in masks] for masks in segmenter.segment(images, prompts)]
        print(line(name, truth, found), flush=True)
    kind = EverythingKind(
        args.points_per_side, point_mask_score=args.point_mask_score, point_stability=args.point_stability
    )
    labeler, ontology = kind.load(config), Ontology((ClassSpec("object"),))
    started = time.perf_counter()
    labeled = labeler.label([LabelRequest("", image, ontology) for image in images])
    seconds = time.perf_counter() - started
    print(line("everything", truth, [[each.rle for each in instances] for instances in labeled]))
    print(f"{sum(map(len, truth))} objects, {len(scenes) / seconds:.2f} images/s")


if __name__ == "__main__":
    main()
