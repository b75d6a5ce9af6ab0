"""``labeler evaluate``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console

from labeler.errors import UsageError
from labeler.files.storage import locate
from labeler.quality import Score
from workflows.commands.flags import add_images_flag

if TYPE_CHECKING:
    from workflows.evaluation.evaluate import Evaluation

PROTOCOLS = ("coco", "lvis", "sginw")
CLASSES_SHOWN = 40
NAMES_SHOWN = 5


def add_evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "output", metavar="OUT", type=locate, help="a labeled folder, or its URI; sginw: a TOML of sets"
    )
    parser.add_argument(
        "--truth", metavar="T", help="a COCO .json, a YOLO-seg data.yaml or its folder, or a folder of mask images"
    )
    parser.add_argument(
        "--map", metavar="TEXT", help='labeled=truth, where class names differ: "puppy=dog, kitten=cat"'
    )
    parser.add_argument(
        "--rank-by", choices=get_args(Score), help="the score that ranks candidates for AP (default: that of the gate)"
    )
    parser.add_argument("--iou", type=float, metavar="P", help="mask IoU that makes a match (default: 0.5)")
    parser.add_argument(
        "--band-width",
        type=int,
        metavar="N",
        help="for truth with careless edges: pixels on each side of its contour …",
    )
    parser.add_argument("--band-weight", type=float, metavar="P", help="… that weigh so much (default: 0)")
    add_images_flag(parser)
    parser.add_argument("--protocol", choices=PROTOCOLS, help="measure as this benchmark does, and print its table")


def run_evaluate(options: dict[str, Any], console: Console) -> int:
    """The ``evaluate`` command; its exit code is returned."""
    from labeler.formats.ground_truth import read_ground_truth
    from labeler.metrics.measures import MeasureConfig
    from workflows.dataset.labeled import open_labeled
    from workflows.evaluation.evaluate import EvaluationConfig, evaluate
    from workflows.evaluation.files import write_evaluation
    from workflows.evaluation.protocols import config_for, evaluate_sets, set_rows
    from workflows.evaluation.tables import print_rows

    protocol = options.get("protocol")
    if protocol and (given := options.keys() & {"rank_by", "iou"}):
        raise UsageError(f"--{min(given).replace('_', '-')} is set by --protocol {protocol}; leave one of them out")
    if protocol == "sginw":
        if given := options.keys() & {"band_width", "band_weight"}:
            raise UsageError(f"--{min(given).replace('_', '-')} is no part of --protocol sginw; leave it out")
        if given := options.keys() & {"truth", "map"}:
            raise UsageError(
                f"--{min(given)}: with --protocol sginw it stands in the TOML file of sets, beside each set"
            )
        print_rows(console, set_rows(evaluate_sets(options["output"])), bold_last=True)
        return 0
    if "truth" not in options:
        raise UsageError("--truth is missing: what to measure against, such as --truth annotations.json")
    output = options["output"]
    labeled = open_labeled(output, options.get("images"))
    truth = read_ground_truth(options["truth"], labeled.run.sizes)
    named = {name: options[name] for name in ("rank_by", "iou", "band_width", "band_weight") if name in options}
    measures = MeasureConfig(**{"rank_by": labeled.export.quality.score, **named})
    class_map = class_map_from(options.get("map", ""))
    config = EvaluationConfig(class_map, measures=measures)
    evaluation = evaluate(labeled, truth, config_for(protocol, config) if protocol else config)
    write_evaluation(output / "evaluation", evaluation, labeled.image, str(options["truth"]), protocol)
    print_evaluation(console, evaluation, protocol)
    console.print(f"written: {output / 'evaluation' / 'evaluation.md'}", highlight=False, markup=False)
    return 0


def class_map_from(text: str) -> dict[str, str]:
    """``labeled=truth`` pairs, parted by commas.

    Raises:
        UsageError: a part is no pair, or maps a class twice.
    """
    pairs: dict[str, str] = {}
    for part in filter(str.strip, text.split(",")):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (ours and equals and theirs) or ours in pairs:
            raise UsageError(f"--map {part.strip()}: write labeled=truth, each labeled class once, parted by commas")
        pairs[ours] = theirs
    return pairs


def print_evaluation(console: Console, evaluation: Evaluation, protocol: str | None) -> None:
    """The tables, and what was not compared."""
    from workflows.evaluation.tables import (
        SEMANTIC_NOTE,
        SIDES,
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
            console.print("\n".join(coco_lines(metrics)), highlight=False, markup=False)
    elif protocol == "lvis":
        print_rows(console, lvis_rows(evaluation))
    else:
        for rows in (verdict_rows(evaluation), overlap_rows(evaluation)):
            print_rows(console, rows, CLASSES_SHOWN, bold_last=True)
        if len(rows := single_rows(evaluation)) > 1:
            print_rows(console, rows)
    console.print(f"{evaluation.images} images compared", highlight=False)
    for note in notes(evaluation):
        console.print(note, highlight=False)
    if evaluation.semantic:
        console.print(SEMANTIC_NOTE, highlight=False)
    for key, what in SIDES.items():
        if names := getattr(evaluation, key):
            more = ", …" if len(names) > NAMES_SHOWN else ""
            console.print(f"{len(names)} {what}: {', '.join(names[:NAMES_SHOWN])}{more}", highlight=False, markup=False)
