"""``labeler demo``: draw scenes, label them like anybody's images, and measure the result against ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import local_path
from labeler.setting import setting
from workflows.commands.options import Command, Outcome

if TYPE_CHECKING:
    from ontologies import Ontology
    from workflows.commands.terminal import Terminal
    from workflows.dataset.labeled import Labeled

SEED = 4711  # not one the weights were trained on
CLASSES_SHOWN, CLASSES_ABSENT = 12, 4


@dataclass(frozen=True)
class DemoOptions:
    output: Path = setting(
        Path("labeler-demo"), "folder to make", metavar="DIR", names=("-o", "--output"), parse=local_path
    )
    scenes: int = setting(60, "scenes to draw", metavar="N", least=1)
    auto: bool = setting(False, "propose the classes from the scenes instead of using a given list")


def run_demo(options: DemoOptions, console: Terminal) -> Outcome:
    """Everything into the output: ``scenes/``, ``truth.json``, ``dataset/`` with its report, and ``preview.png``."""
    from workflows.reporting.report import report

    output = options.output
    if output.exists() and any(output.iterdir()) and not (output / "dataset" / "run" / "run.json").exists():
        raise UsageError(f"{output} is not empty and no earlier demo; choose another folder with -o")
    ontology = _draw(options)
    asked = "naming none" if options.auto else f"asking for those and {CLASSES_ABSENT} that are in no scene"
    console.print(f"{options.scenes} scenes drawn with {CLASSES_SHOWN} kinds of object; {asked}", highlight=False)
    labeled = _label(output, ontology, console)
    _measure(output, labeled, console)
    return Outcome(line=f"full report: {report(labeled).path}")


def _draw(options: DemoOptions) -> Ontology | None:
    """Write scenes and their ground truth; the classes to ask for are returned, if any are named."""
    import json
    import shutil

    import numpy as np
    from PIL import Image

    from labeler.demo.scenes import PAIRS, SEEN_PAIRS, class_name, coco_ground_truth, make_scene, scene_rng
    from ontologies import ClassSpec, Ontology

    chosen = np.random.default_rng(SEED).permutation(len(SEEN_PAIRS))[: CLASSES_SHOWN + CLASSES_ABSENT]
    pairs = [SEEN_PAIRS[int(index)] for index in chosen]
    scenes = [make_scene(scene_rng(SEED, index), pairs=pairs[:CLASSES_SHOWN]) for index in range(options.scenes)]
    names = [f"scene_{index:04d}.png" for index in range(options.scenes)]
    folder = options.output / "scenes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for scene, name in zip(scenes, names, strict=True):
        Image.fromarray(scene.image).save(folder / name)
    known = [class_name(pair) for pair in (PAIRS if options.auto else pairs)]
    truth = coco_ground_truth(scenes, names, known)
    (options.output / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    return None if options.auto else Ontology(tuple(ClassSpec(class_name(pair)) for pair in pairs))


def _label(output: Path, ontology: Ontology | None, console: Terminal) -> Labeled:
    from labeler.models.config import PRESETS, ModelConfig
    from labeler.models.taggers.config import TaggingConfig, vocabulary_for
    from workflows.commands.console import print_label_summary
    from workflows.commands.progress import ConsoleProgress
    from workflows.dataset.labeled import open_labeled
    from workflows.label import label
    from workflows.settings.engine import EngineConfig
    from workflows.settings.export import ExportConfig
    from workflows.settings.job import LabelJob

    preset = PRESETS["demo"]
    model = ModelConfig(preset.detector, preset.segmenter, floor=0.05)
    tagging = None
    if ontology is None:
        tagging = TaggingConfig(vocabulary=vocabulary_for(TaggingConfig(), model, None))
    job = LabelJob(
        images=str(output / "scenes"),
        output=output / "dataset",
        ontology=ontology,
        model=model,
        export=ExportConfig(),
        tagging=tagging,
        restart=True,
        engine=EngineConfig("local"),
    )
    progress = ConsoleProgress(console)
    try:
        summary = label(job, progress)
    finally:
        progress.close()
    print_label_summary(console, summary, job.output)
    console.print(summary.run.line(), highlight=False, markup=False)
    return open_labeled(job.output)


def _measure(output: Path, labeled: Labeled, console: Terminal) -> None:
    """Print how good the labels are, and draw some of them."""
    from itertools import islice

    from labeler.formats.ground_truth import read_ground_truth
    from workflows.drawing.sheets import COLUMNS, write_sheet
    from workflows.evaluation.evaluate import evaluate
    from workflows.evaluation.tables import number
    from workflows.settings.evaluation import EvaluationConfig

    truth = read_ground_truth(output / "truth.json")
    total = evaluate(labeled, truth, EvaluationConfig(every_class=True)).measured.total
    console.print()
    console.print(
        f"against the ground truth: mask AP50 {number(total.mask.ap50)}, AP75 {number(total.mask.ap75)}, AP "
        f"{number(total.mask.ap)} (COCO, all candidates); accepted labels: precision {number(total.precision)}, recall "
        f"{number(total.recall)} at IoU 0.5",
        highlight=False,
    )
    with_objects = islice((each for each in labeled.judged() if each[0].instances), 2 * COLUMNS)
    write_sheet(with_objects, output / "scenes", labeled.ontology.class_names, output / "preview.png")
    console.print(f"preview of the labels: {output / 'preview.png'}", highlight=False, markup=False)


COMMAND = Command(
    DemoOptions,
    run_demo,
    examples=("labeler demo", "labeler demo --auto -o labeler-demo-auto", "labeler demo --scenes 300 -o more-scenes"),
)
