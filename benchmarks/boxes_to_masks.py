"""How good the masks are that `label --boxes` makes from right boxes: mean IoU with the true masks of fresh scenes.

    python benchmarks/boxes_to_masks.py --scenes 300

The boxes are the tight boxes of the visible pixels, as an annotator would draw them; the masks are those of the demo
segmenter, at its defaults.
"""

from __future__ import annotations

import argparse

import numpy as np

from labeler.demo.scenes import PAIRS, class_name, make_scene, scene_rng
from labeler.formats.given_boxes import GivenBoxes, ImageBoxes
from labeler.geometry.masks import mask_iou, mask_to_rle, rle_box_xyxy
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.labelers.boxes import BoxLabeler
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.labelers.on_device import labeler_on_device
from labeler.models.loading import load_segmenter
from ontologies import ClassSpec, Ontology

FRESH_SEED = 20_000  # as in demo_accuracy.py
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    args = parser.parse_args()
    names = tuple(class_name(pair) for pair in PAIRS)
    ontology = Ontology(tuple(map(ClassSpec, names)))
    scenes = [make_scene(scene_rng(FRESH_SEED, index), pairs=PAIRS) for index in range(args.scenes)]
    truth = [[mask_to_rle(scene.mask(index)) for index in range(len(scene.pairs))] for scene in scenes]
    images = {
        f"{number}.png": ImageBoxes(
            scene.image.shape[1],
            scene.image.shape[0],
            np.array([rle_box_xyxy(rle) for rle in rles], np.float32).reshape(-1, 4),
            np.array([names.index(class_name(pair)) for pair in scene.pairs], np.int64),
        )
        for number, (scene, rles) in enumerate(zip(scenes, truth, strict=True))
    }
    config = ModelConfig("", PRESETS["demo"].segmenter, device="cpu")
    boxes = BoxLabeler(GivenBoxes(names, images, (), ""), {}, load_segmenter(config))
    labeler = labeler_on_device(boxes, config)
    requests = [LabelRequest(name, scene.image, ontology) for name, scene in zip(images, scenes, strict=True)]
    found = [each for at in range(0, len(requests), BATCH) for each in labeler.label(requests[at : at + BATCH])]
    ious = np.concatenate(
        [
            mask_iou([each.rle for each in instances], rles).diagonal()
            for instances, rles in zip(found, truth, strict=True)
            if rles
        ]
    )
    print(f"{len(ious)} objects in {len(scenes)} scenes: mean IoU {ious.mean():.3f}, median {np.median(ious):.3f}")
    print(f"at least 0.5: {(ious >= 0.5).mean():.3f}, at least 0.75: {(ious >= 0.75).mean():.3f}")


if __name__ == "__main__":
    main()
