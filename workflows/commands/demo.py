"""``labeler demo``: draw scenes, label them like anybody's images, and measure the result against the truth."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from labeler.demo.scenes import PAIRS, SEEN_PAIRS, class_name, coco_ground_truth, make_scene, scene_rng
from labeler.errors import UsageError
from labeler.formats.ground_truth import read_ground_truth
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.tagging import TaggingConfig, vocabulary_for
from ontologies import ClassSpec, Ontology
from workflows.commands.console import ConsoleProgress, print_label_summary
from workflows.dataset.labeled import open_labeled
from workflows.drawing.sheets import COLUMNS, write_sheet
from workflows.evaluation.evaluate import EvaluationConfig, evaluate
from workflows.evaluation.tables import number
from workflows.label import label
from workflows.reporting.report import report
from workflows.settings.engine import EngineConfig
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob

SEED = 4711  # not one the weights were trained on
CLASSES_SHOWN, CLASSES_ABSENT = 12, 4


def run_demo(output: Path, scene_count: int, auto: bool, console: Console) -> int:
    """Everything into ``output``: ``scenes/``, ``truth.json``, ``dataset/`` with its report, and ``preview.png``.

    Args:
        auto: name no class; the scenes propose their own.
    """
    if output.exists() and any(output.iterdir()) and not (output / "dataset" / "run" / "run.json").exists():
        raise UsageError(f"{output} is not empty and no earlier demo; choose another folder with -o")
    if scene_count < 1:
        raise UsageError(f"--scenes must be 1 or more, not {scene_count}")
    chosen = np.random.default_rng(SEED).permutation(len(SEEN_PAIRS))[: CLASSES_SHOWN + CLASSES_ABSENT]
    pairs = [SEEN_PAIRS[int(index)] for index in chosen]
    ontology = None if auto else Ontology(tuple(ClassSpec(class_name(pair)) for pair in pairs))
    known = [class_name(pair) for pair in (PAIRS if auto else pairs)]
    scenes = [make_scene(scene_rng(SEED, index), pairs=pairs[:CLASSES_SHOWN]) for index in range(scene_count)]
    names = [f"scene_{index:04d}.png" for index in range(scene_count)]
    folder = output / "scenes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for scene, name in zip(scenes, names, strict=True):
        Image.fromarray(scene.image).save(folder / name)
    truth = coco_ground_truth(scenes, names, known)
    (output / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    asked = "naming none" if auto else f"asking for those and {CLASSES_ABSENT} that are nowhere"
    console.print(f"{scene_count} scenes drawn with {CLASSES_SHOWN} kinds of object; {asked}", highlight=False)

    preset = PRESETS["demo"]
    model = ModelConfig(preset.detector, preset.segmenter, floor=0.05)
    job = LabelJob(
        images=str(folder),
        output=output / "dataset",
        ontology=ontology,
        model=model,
        export=ExportConfig(),
        tagging=TaggingConfig(vocabulary=vocabulary_for(TaggingConfig(), model, None)) if auto else None,
        restart=True,
        engine=EngineConfig("local"),
    )
    progress = ConsoleProgress(console)
    try:
        summary = label(job, progress)
    finally:
        progress.close()
    print_label_summary(console, summary, job.output)

    labeled = open_labeled(job.output)
    total = evaluate(
        labeled, read_ground_truth(output / "truth.json"), EvaluationConfig(every_class=True)
    ).measured.total
    console.print(
        f"\nagainst the truth: mask AP50 {number(total.mask.ap50)}, AP75 {number(total.mask.ap75)}, AP "
        f"{number(total.mask.ap)} (COCO, all candidates); accepted labels: precision {number(total.precision)}, recall "
        f"{number(total.recall)} at IoU 0.5",
        highlight=False,
    )
    with_objects = islice((each for each in labeled.judged() if each[0].instances), 2 * COLUMNS)
    write_sheet(with_objects, folder, labeled.ontology.class_names, output / "preview.png")
    console.print(f"a look at the labels: {output / 'preview.png'}", highlight=False, markup=False)
    console.print(f"all about them: {report(labeled).path}", highlight=False, markup=False)
    return 0
