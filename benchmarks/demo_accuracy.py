"""Accuracy of the embedded demo weights on fresh scenes, by COCO's protocol.

    python benchmarks/demo_accuracy.py [--scenes 300] [--detector FOLDER] [--segmenter FOLDER]
    python benchmarks/demo_accuracy.py --image-sizes [--scenes 100]

Each image is asked for what it shows and for four classes it does not show. Four tables: every colour–shape pair; pairs
whose prompt was held out of training; bare shapes; and, harder, all 64 pairs asked of every image.
``--image-sizes`` prints instead what ``--detector-image-size`` and ``--segmenter-image-size`` cost and give, on one
thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from labeler.demo.scenes import (
    HELD_OUT_PAIRS,
    PAIRS,
    SHAPES,
    Pair,
    Scene,
    class_name,
    make_scene,
    scene_ground_truth,
    scene_rng,
)
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.loading import load_grounded_sam
from labeler.records import Instance
from ontologies import ClassSpec, Ontology

FRESH_SEED = 20_000  # far from the training seeds
ABSENT = 4
SIZES = (  # of the detector and the segmenter; the checkpoints' own come first
    (160, 320),
    *((detector, 320) for detector in (96, 128, 224)),
    *((160, segmenter) for segmenter in (192, 224, 256, 384, 448)),
    (128, 256),
)


def evaluate(
    config: ModelConfig,
    scenes: Sequence[Scene],
    class_names: Sequence[str],
    name_of: Callable[[Pair], str],
    every_class: bool = False,
) -> str:
    rng = np.random.default_rng(7)
    ontologies = []
    for scene in scenes:
        present = list(dict.fromkeys(name_of(pair) for pair in scene.pairs))
        absent = [name for name in class_names if name not in present]
        chosen = rng.permutation(absent)[: len(absent) if every_class else ABSENT]
        names = [str(name) for name in rng.permutation([*present, *chosen])]
        ontologies.append(Ontology(tuple(ClassSpec(name) for name in names)))
    labeler = load_grounded_sam(config)
    started, used = time.perf_counter(), time.process_time()
    truth = scene_ground_truth(scenes, [f"{i}.png" for i in range(len(scenes))], class_names)
    found: list[list[Instance]] = []
    for start in range(0, len(scenes), config.images_per_pass):
        stop = start + config.images_per_pass
        batch = zip(scenes[start:stop], ontologies[start:stop], strict=True)
        found += labeler.label([LabelRequest("", scene.image, ontology) for scene, ontology in batch])
    seconds, used = time.perf_counter() - started, time.process_time() - used
    measures = MeasureAccumulator(class_names)
    for index, (image, instances, ontology) in enumerate(zip(truth.images, found, ontologies, strict=True)):
        class_ids = [class_names.index(name) for name in ontology.class_names]
        renamed = [replace(instance, class_id=class_ids[instance.class_id]) for instance in instances]
        measures.add(index, image, renamed, [False] * len(renamed))
    total = measures.result().total
    return (
        f"{total.mask.ap50:.3f}  {total.mask.ap75:.3f}  {total.mask.ap:.3f}   "
        f"{total.objects} objects, {len(scenes) / seconds:.1f} images/s, {used / len(scenes):.3f} CPU s an image"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--image-sizes", action="store_true")
    parser.add_argument("--detector", default=PRESETS["demo"].detector)
    parser.add_argument("--segmenter", default=PRESETS["demo"].segmenter)
    args = parser.parse_args()
    config = ModelConfig(args.detector, args.segmenter, device="cpu", floor=0.05)

    def scenes(seed: int, pairs: Sequence[Pair]) -> list[Scene]:
        return [make_scene(scene_rng(FRESH_SEED + seed, index), pairs=pairs) for index in range(args.scenes)]

    pair_names = [class_name(pair) for pair in PAIRS]
    some = scenes(0, PAIRS)
    if args.image_sizes:
        torch.set_num_threads(1)  # threads that wait for each other take CPU time, too
        print("detector  segmenter  AP50   AP75   AP")
        for detector, segmenter in SIZES:
            sized = replace(config, detector_image_size=detector, segmenter_image_size=segmenter)
            found = evaluate(sized, some, pair_names, class_name)
            print(f"{detector:8}  {segmenter:9}  {found}", flush=True)
        return
    print("prompts                 AP50   AP75   AP")
    print("pairs                  ", evaluate(config, some, pair_names, class_name), flush=True)
    print("held-out pairs         ", evaluate(config, scenes(1, HELD_OUT_PAIRS), pair_names, class_name), flush=True)
    print("bare shapes            ", evaluate(config, some, list(SHAPES), lambda pair: pair[1]), flush=True)
    print("pairs, all 64 prompted ", evaluate(config, some, pair_names, class_name, every_class=True), flush=True)


if __name__ == "__main__":
    main()
