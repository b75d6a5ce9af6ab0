"""Labeling the demo's scenes without naming a class, and with a gate before the detector.

    python benchmarks/demo_tagging.py [--scenes 300] [--gate-below 0.3]

The tagger is the detector swept over the demo's 64 words, the one that needs no further weights. AP is COCO's for
masks, by class name, over all candidates; precision and recall are of what the quality gate accepts. Every class is
asked of every image where classes are given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from labeler.demo.scenes import PAIRS, Scene, class_name, coco_truth, make_scene, scene_rng
from labeler.labelers import GroundedSamLabeler
from labeler.models import PRESETS, ModelConfig, for_batches, load_labeler
from labeler.quality import QualityConfig, judge
from labeler.records import ImageRecord, Instance
from labeler.tagger_models import TaggingConfig, load_prompter, vocabulary_for
from ontologies import ClassSpec, Ontology
from workflows.evaluate import mask_ap, precision_recall

FRESH_SEED = 20_000  # as of demo_accuracy.py
NAMES = tuple(class_name(pair) for pair in PAIRS)
Found = tuple[int, int, Instance]


def label(
    scenes: Sequence[Scene],
    labeler: GroundedSamLabeler,
    config: ModelConfig,
    tagging: TaggingConfig | None,
    named: bool,
) -> tuple[list[Found], list[tuple[int, str]], str]:
    """Instances with (image id, category id), (image id, tag), and what a gate spared."""
    ontology = Ontology(tuple(map(ClassSpec, NAMES))) if named else None
    prompter = load_prompter(tagging, ontology, config, labeler.detector)
    batched = for_batches(labeler, config)
    found: list[Found] = []
    tags: list[tuple[int, str]] = []
    forwards = spared = 0
    for start in range(0, len(scenes), config.batch_size):
        images = [scene.image for scene in scenes[start : start + config.batch_size]]
        prompts = prompter.prompts_for(images)
        asked = [row for row, each in enumerate(prompts) if each.ontology]
        labeled = batched.label([images[row] for row in asked], [o for each in prompts if (o := each.ontology)])
        for row, instances in zip(asked, labeled, strict=True):
            names = prompts[row].ontology
            assert names is not None
            found += [(start + row + 1, NAMES.index(names.class_names[i.class_id]) + 1, i) for i in instances]
        for row, each in enumerate(prompts):
            tags += [(start + row + 1, tag) for tag, _ in each.tags]
            forwards, spared = forwards + each.forwards, spared + each.spared
    return found, tags, f"{spared} of {forwards + spared}" if spared else "none"


def accepted(found: Sequence[Found]) -> list[Found]:
    by_image: dict[int, list[Found]] = {}
    for item in found:
        by_image.setdefault(item[0], []).append(item)
    kept = []
    for items in by_image.values():
        instances = tuple(
            Instance(category - 1, i.prompt, i.box_xyxy, i.score, i.mask_score, i.stability, i.area, i.rle)
            for _, category, i in items
        )
        record = ImageRecord("", 320, 320, "", instances=instances)
        verdicts = judge(record, QualityConfig(), tuple(map(ClassSpec, NAMES)))
        kept += [item for item, judgement in zip(items, verdicts, strict=True) if judgement.verdict == "accept"]
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--gate-below", type=float, default=0.3)
    args = parser.parse_args()
    preset = PRESETS["demo"]
    config = ModelConfig(preset.detector, preset.segmenter, device="cpu", floor=0.05)
    labeler = load_labeler(config)
    scenes = [make_scene(scene_rng(FRESH_SEED, index), pairs=PAIRS) for index in range(args.scenes)]
    truth = coco_truth(scenes, [f"{i}.png" for i in range(len(scenes))], NAMES)
    auto = TaggingConfig("detector", vocabulary=vocabulary_for(TaggingConfig("detector"), config, None))
    gate = TaggingConfig("detector", gate_below=args.gate_below)
    print("                          AP50   AP75     AP   precision   recall   forwards spared")
    for name, tagging, named in (
        ("no class named", auto, False),
        ("64 classes, no gate", None, True),
        (f"64 classes, gate {args.gate_below}", gate, True),
    ):
        found, tags, spared = label(scenes, labeler, config, tagging, named)
        metrics = mask_ap(truth, found)
        precision, recall = precision_recall(truth, accepted(found))
        print(
            f"{name:24}  {metrics.ap50:.3f}  {metrics.ap75:.3f}  {metrics.ap:.3f}   {precision:9.3f}   {recall:6.3f}   "
            f"{spared}",
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
