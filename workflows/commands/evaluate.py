"""``labeler evaluate``: the labels measured against ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import locate
from labeler.metrics.measure_config import MeasureConfig
from labeler.setting import setting
from workflows.commands.export import IMAGES
from workflows.commands.options import Command, Outcome, changes
from workflows.settings.changes import Changes
from workflows.settings.evaluation import EvaluationConfig

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.commands.terminal import Terminal
    from workflows.evaluation.evaluate import Evaluation

PROTOCOLS = ("coco", "lvis", "sginw")
GROUND_TRUTH = "a COCO or LVIS .json, a YOLO data.yaml or its folder, or a folder of mask images"
CLASS_MAP = 'pairs labeled=ground truth, where class names differ: "puppy=dog, kitten=cat"'
BOXES_AS_MASKS = "where the ground truth has a box and no mask, take the rectangle as the mask"
CLASSES_SHOWN = 40
NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    output: AnyPath = setting(
        help="a labeled folder, or its URI; with --protocol sginw a TOML file of sets",
        metavar="OUT",
        positional=True,
        parse=locate,
    )
    ground_truth: str | None = setting(None, GROUND_TRUTH, metavar="PATH", aliases=("--truth",), unset="none")
    class_map: str = setting("", CLASS_MAP, metavar="TEXT", names=("--map",), unset="same names")
    boxes_as_masks: bool = setting(False, BOXES_AS_MASKS)
    measures: Changes[MeasureConfig] = changes(MeasureConfig)
    protocol: str | None = setting(
        None, "measure as this benchmark does and print its table", choices=PROTOCOLS, group="measures", unset="none"
    )
    images: str | None = setting(None, IMAGES, metavar="URI", unset="images are read from the dataset")


def run_evaluate(options: EvaluateOptions, console: Terminal) -> Outcome:
    from labeler.formats.ground_truth import read_ground_truth
    from workflows.dataset.labeled import open_labeled
    from workflows.evaluation.evaluate import evaluate
    from workflows.evaluation.files import write_evaluation
    from workflows.evaluation.protocols import config_for, evaluate_sets, set_rows
    from workflows.evaluation.tables import print_rows

    protocol, output = options.protocol, options.output
    _check_protocol(options)
    if protocol == "sginw":
        print_rows(console, set_rows(evaluate_sets(output)), bold_last=True)
        return Outcome()
    if options.ground_truth is None:
        raise UsageError("--ground-truth is missing: what to measure against, such as --ground-truth annotations.json")
    labeled = open_labeled(output, options.images)
    truth = read_ground_truth(options.ground_truth, labeled.run.sizes, options.boxes_as_masks)
    measures = options.measures.of(MeasureConfig(rank_by=labeled.export.quality.score))
    config = EvaluationConfig(class_map_from(options.class_map), measures=measures)
    evaluation = evaluate(labeled, truth, config_for(protocol, config) if protocol else config)
    write_evaluation(output / "evaluation", evaluation, labeled.image, options.ground_truth, protocol)
    print_evaluation(console, evaluation, protocol)
    return Outcome(line=f"written: {output / 'evaluation' / 'evaluation.md'}")


def _check_protocol(options: EvaluateOptions) -> None:
    """Refuse flags that the protocol sets itself.

    Raises:
        UsageError: there is one.
    """
    protocol, given = options.protocol, options.measures.values.keys()
    if protocol and (own := given & {"rank_by", "iou"}):
        raise UsageError(f"{_flag(min(own))} is set by --protocol {protocol}; leave one of them out")
    if protocol == "sginw":
        if own := given & {"band_width", "band_weight"}:
            raise UsageError(f"{_flag(min(own))} is no part of --protocol sginw; leave it out")
        if options.boxes_as_masks:
            raise UsageError("--boxes-as-masks is no part of --protocol sginw; leave it out")
        if options.ground_truth is not None or options.class_map:
            flag = "--ground-truth" if options.ground_truth is not None else "--map"
            raise UsageError(f"{flag}: with --protocol sginw it stands in the TOML file of sets, beside each set")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def class_map_from(text: str) -> dict[str, str]:
    """Pairs of labeled class and class of the ground truth, from ``labeled=ground truth`` parted by commas.

    Raises:
        UsageError: a part is no pair, or maps a class twice.
    """
    pairs: dict[str, str] = {}
    for part in filter(str.strip, text.split(",")):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (ours and equals and theirs) or ours in pairs:
            raise UsageError(
                f"--map {part.strip()}: write labeled=ground truth, each labeled class once, parted by commas"
            )
        pairs[ours] = theirs
    return pairs


def print_evaluation(console: Terminal, evaluation: Evaluation, protocol: str | None) -> None:
    """The tables, and what was not compared."""
    from workflows.evaluation.tables import (
        NOT_COMPARED,
        SEMANTIC_NOTE,
        coco_lines,
        lvis_rows,
        notes,
        overlap_rows,
        print_rows,
        single_rows,
        verdict_rows,
    )

    total = evaluation.measured.total
    if protocol == "coco":
        for kind, metrics in (("masks", total.mask), ("boxes", total.box)):
            console.print(kind, highlight=False)
            for line in coco_lines(metrics):
                console.print(line, highlight=False, markup=False)
    elif protocol == "lvis":
        print_rows(console, lvis_rows(evaluation))
    else:
        for rows in (verdict_rows(evaluation), overlap_rows(evaluation)):
            print_rows(console, rows, CLASSES_SHOWN, bold_last=True)
        if len(rows := single_rows(evaluation)) > 1:
            print_rows(console, rows)
    console.print(f"{evaluation.images} images compared", highlight=False)
    for note in notes(evaluation):
        console.print(note, highlight=False, markup=False)
    if evaluation.semantic:
        console.print(SEMANTIC_NOTE, highlight=False)
    for key, what in NOT_COMPARED.items():
        if names := getattr(evaluation, key):
            more = ", …" if len(names) > NAMES_SHOWN else ""
            console.print(f"{len(names)} {what}: {', '.join(names[:NAMES_SHOWN])}{more}", highlight=False, markup=False)


COMMAND = Command(
    EvaluateOptions,
    run_evaluate,
    examples=(
        "labeler evaluate dataset --ground-truth truth.json",
        'labeler evaluate dataset --ground-truth masks --map "puppy=dog, kitten=cat" --band-width 3',
        "labeler evaluate dataset --ground-truth lvis_v1_val.json --protocol lvis",
    ),
    first=("output", "ground_truth", "class_map", "images", "config"),
)
