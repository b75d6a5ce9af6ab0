"""What tiles are worth for small objects: mosaics of demo scenes, labeled whole and with tiles.

    python benchmarks/tiles.py [--mosaics 20] [--tile 320] [--overlap 0.25]

A mosaic is 3 x 3 scenes of 320 pixels, 960 x 960 pixels, asked for what it shows and for four classes that it does not
show. Mask AP50 by pycocotools over all candidates; recall at mask IoU 0.5 of the objects that a border of a tile cuts,
and of the others; and the CPU time, as a multiple of that without tiles.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from labeler.demo.scenes import PAIRS, class_name, make_scene, scene_rng
from labeler.geometry.masks import mask_to_rle, rle_box_xyxy
from labeler.geometry.tiles import Box, tile_boxes
from labeler.ground_truth import GroundTruthImage, GroundTruthInstance, match_masks
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.tiled import TiledKind
from labeler.models.labelers.labeler import LabelRequest
from labeler.records import Instance
from ontologies import ClassSpec, Ontology

FRESH_SEED = 30_000  # far from the training seeds
SIDE, ACROSS, ABSENT = 320, 3, 4
NAMES = [class_name(pair) for pair in PAIRS]
Mosaic = tuple[LabelRequest, GroundTruthImage]


def mosaic(number: int) -> Mosaic:
    whole = SIDE * ACROSS
    pixels = np.zeros((whole, whole, 3), dtype=np.uint8)
    true: list[GroundTruthInstance] = []
    for cell in range(ACROSS * ACROSS):
        scene = make_scene(scene_rng(FRESH_SEED, number * ACROSS * ACROSS + cell), SIDE)
        top, left = SIDE * (cell // ACROSS), SIDE * (cell % ACROSS)
        pixels[top : top + SIDE, left : left + SIDE] = scene.image
        for index, pair in enumerate(scene.pairs):
            mask = np.zeros((whole, whole), dtype=bool)
            mask[top : top + SIDE, left : left + SIDE] = scene.mask(index)
            true.append(GroundTruthInstance(NAMES.index(class_name(pair)), mask_to_rle(mask)))
    present = sorted({each.class_id for each in true})
    absent = [class_id for class_id in range(len(NAMES)) if class_id not in present]
    chosen = np.random.default_rng([FRESH_SEED, number]).permutation([*present, *absent[:ABSENT]])
    ontology = Ontology(tuple(ClassSpec(NAMES[class_id]) for class_id in chosen))
    return LabelRequest("", pixels, ontology), GroundTruthImage(f"{number}.png", whole, whole, tuple(true))


def is_cut(instance: GroundTruthInstance, tiles: Sequence[Box]) -> bool:
    """Whether no tile shows all of it."""
    x1, y1, x2, y2 = rle_box_xyxy(instance.rle)
    return not any(a <= x1 and b <= y1 and x2 <= c and y2 <= d for a, b, c, d in tiles)


def crosses(instance: GroundTruthInstance, tiles: Sequence[Box]) -> bool:
    """Whether the border of a tile cuts it."""
    x1, y1, x2, y2 = rle_box_xyxy(instance.rle)
    return any(
        max(a, x1) < min(c, x2) and max(b, y1) < min(d, y2) and not (a <= x1 and b <= y1 and x2 <= c and y2 <= d)
        for a, b, c, d in tiles
    )


def measure(
    kind: LabelerKind, config: ModelConfig, mosaics: Sequence[Mosaic], tiles: Sequence[Box]
) -> tuple[str, float]:
    labeler = kind.load(config)
    labeler.label([mosaics[0][0]])  # the first call takes longer
    started = time.process_time()
    found = [labeler.label([request])[0] for request, _ in mosaics]
    seconds = time.process_time() - started
    measures = MeasureAccumulator(NAMES)
    counts = dict.fromkeys(("cut in every tile", "cut in some tile", "cut in none"), (0, 0))
    for index, ((request, image), instances) in enumerate(zip(mosaics, found, strict=True)):
        ids = [NAMES.index(name) for name in request.ontology.class_names]
        renamed = [replace(each, class_id=ids[each.class_id]) for each in instances]
        measures.add(index, image, renamed, [False] * len(renamed))
        for true, hit in zip(image.instances, hits(image, renamed), strict=True):
            name = (
                "cut in every tile"
                if is_cut(true, tiles)
                else "cut in some tile"
                if crosses(true, tiles)
                else "cut in none"
            )
            counts[name] = counts[name][0] + hit, counts[name][1] + 1
    total = measures.result().total
    recalls = ", ".join(f"{name} {hit / max(all_, 1):.3f} of {all_}" for name, (hit, all_) in counts.items())
    return f"AP50 {total.mask.ap50:.3f}, AP {total.mask.ap:.3f}; recall: {recalls}", seconds


def hits(image: GroundTruthImage, found: Sequence[Instance]) -> list[bool]:
    """Which objects any candidate of their class matches."""
    hit = [False] * len(image.instances)
    for class_id in {each.class_id for each in found}:
        places = [place for place, each in enumerate(image.instances) if each.class_id == class_id]
        rles = [each.rle for each in sorted(found, key=lambda each: -each.joint_score) if each.class_id == class_id]
        for match in match_masks(rles, [image.instances[place] for place in places]):
            if match >= 0:
                hit[places[match]] = True
    return hit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mosaics", type=int, default=20)
    parser.add_argument("--tile", type=int, default=320)
    parser.add_argument("--overlap", type=float, default=0.25)
    args = parser.parse_args()
    preset = PRESETS["demo"]
    config = ModelConfig(preset.detector, preset.segmenter, device="cpu", floor=0.05)
    mosaics = [mosaic(number) for number in range(args.mosaics)]
    tiles = tile_boxes(SIDE * ACROSS, SIDE * ACROSS, args.tile, args.overlap)
    whole, seconds = measure(GroundedSamKind(), config, mosaics, tiles)
    print("whole image:", whole, flush=True)
    tiled, longer = measure(TiledKind(GroundedSamKind(), args.tile, args.overlap), config, mosaics, tiles)
    print("with tiles: ", tiled, flush=True)
    print(f"{len(tiles)} tiles and the whole image take {longer / seconds:.1f} times the CPU time of the whole image")


if __name__ == "__main__":
    main()
