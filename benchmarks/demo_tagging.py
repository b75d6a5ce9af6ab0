"""Labeling the demo's scenes without naming a class, and with a gate before the detector.

    python benchmarks/demo_tagging.py [--scenes 300] [--gate-below 0.3]

The tagger is the detector swept over the demo's 64 words, the one that needs no further weights. AP is COCO's for
masks, by class name, over all candidates; precision and recall are of what the quality gate accepts. Every class is
asked of every image where classes are given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from labeler.demo.scenes import PAIRS, Scene, class_name, make_scene, scene_ground_truth, scene_rng
from labeler.ground_truth import GroundTruth
from labeler.metrics.accumulator import MeasureAccumulator
from labeler.metrics.measures import ClassMeasures
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.labelers.grounded_sam import GroundedSamLabeler
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.labelers.on_device import labeler_on_device
from labeler.models.loading import load_grounded_sam
from labeler.models.prompters.loading import load_prompter
from labeler.models.taggers.config import TaggingConfig, vocabulary_for
from labeler.quality import judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology

FRESH_SEED = 20_000  # as of demo_accuracy.py
NAMES = tuple(class_name(pair) for pair in PAIRS)


def label(
    scenes: Sequence[Scene],
    labeler: GroundedSamLabeler,
    config: ModelConfig,
    tagging: TaggingConfig | None,
    named: bool,
) -> tuple[list[list[Instance]], list[tuple[int, str]], str]:
    """Instances of each image, class ids being places in ``NAMES``; (image id, tag); and forward passes per image."""
    ontology = Ontology(tuple(map(ClassSpec, NAMES))) if named else None
    prompter = load_prompter(tagging, ontology, config, labeler.detector)
    batched = labeler_on_device(labeler, config)
    found: list[list[Instance]] = [[] for _ in scenes]
    tags: list[tuple[int, str]] = []
    forward_passes = 0
    for start in range(0, len(scenes), config.images_per_pass):
        images = [scene.image for scene in scenes[start : start + config.images_per_pass]]
        prompts = prompter.prompts_for(images)
        asked = [row for row, each in enumerate(prompts) if each.ontology]
        labeled = batched.label(
            [LabelRequest("", images[row], o) for row, each in enumerate(prompts) if (o := each.ontology)]
        )
        for row, instances in zip(asked, labeled, strict=True):
            names = prompts[row].ontology
            assert names is not None
            class_ids = [NAMES.index(name) for name in names.class_names]
            found[start + row] = [replace(instance, class_id=class_ids[instance.class_id]) for instance in instances]
        for row, each in enumerate(prompts):
            tags += [(start + row + 1, tag) for tag, _ in each.tags]
            forward_passes += each.forward_passes or (labeler.detector.forward_passes(NAMES) if named else 0)
    return found, tags, f"{forward_passes / len(scenes):.2f}" if named else ""


def measure(truth: GroundTruth, found: Sequence[Sequence[Instance]]) -> ClassMeasures:
    measures = MeasureAccumulator(NAMES)
    for index, (image, instances) in enumerate(zip(truth.images, found, strict=True)):
        record = ImageRecord(image.name, image.width, image.height, "", instances=tuple(instances))
        judgements = judge(record, QualityConfig(), tuple(map(ClassSpec, NAMES)))
        measures.add(index, image, instances, [judgement.verdict == "accept" for judgement in judgements])
    return measures.result().total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--gate-below", type=float, default=0.3)
    args = parser.parse_args()
    preset = PRESETS["demo"]
    config = ModelConfig(preset.detector, preset.segmenter, device="cpu", floor=0.05)
    labeler = load_grounded_sam(config)
    scenes = [make_scene(scene_rng(FRESH_SEED, index), pairs=PAIRS) for index in range(args.scenes)]
    truth = scene_ground_truth(scenes, [f"{i}.png" for i in range(len(scenes))], NAMES)
    auto = TaggingConfig("detector", vocabulary=vocabulary_for(TaggingConfig("detector"), config, None))
    gate = TaggingConfig("detector", gate_below=args.gate_below)
    print("                          AP50   AP75     AP   precision   recall   forward passes per image")
    eights = replace(config, prompts_per_caption=8)
    in_eights = load_grounded_sam(eights)
    for name, tagging, named in (
        ("no class named", auto, False),
        ("64 classes, no gate", None, True),
        (f"64 classes, gate {args.gate_below}", gate, True),
        ("in eights, no gate", None, True),
        (f"in eights, gate {args.gate_below}", gate, True),
    ):
        apart = name.startswith("in eights")
        found, tags, forward_passes = label(
            scenes, in_eights if apart else labeler, eights if apart else config, tagging, named
        )
        total = measure(truth, found)
        print(
            f"{name:24}  {total.mask.ap50:.3f}  {total.mask.ap75:.3f}  {total.mask.ap:.3f}   {total.precision:9.3f}   "
            f"{total.recall:6.3f}   {forward_passes}",
            flush=True,
        )
        if not named:
            said = set(tags)
            true = {(index + 1, class_name(pair)) for index, scene in enumerate(scenes) for pair in scene.pairs}
            right = len(said & true)
            f1 = 2 * right / (len(said) + len(true))
            print(f"  its tags: precision {right / len(said):.3f}, recall {right / len(true):.3f}, F1 {f1:.3f}")


if __name__ == "__main__":
    main()
