"""An evaluation as tables for terminal and Markdown, including those that benchmarks publish."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labeler.metrics.coco import COCO_LIMIT, CocoMetrics
from labeler.metrics.measures import ClassMeasures, Overlap
from workflows.evaluation.evaluate import Evaluation

Rows = list[list[str]]  # the first row is the header
FREQUENCIES = "rcf"  # of LVIS: rare, common, frequent
# Fields of ``Evaluation`` that list what was not compared, or failed.
NOT_COMPARED = {
    "only_labeled": "images without ground truth",
    "ambiguous": "images whose name fits several of the ground truth, or shares one, not compared",
    "only_in_ground_truth": "images of the ground truth that were not labeled",
    "other_size": "images of another size in the ground truth, not compared",
    "failed": "images that could not be labeled; their objects count as false negatives",
    "classes_only_labeled": "classes without ground truth, not compared",
    "classes_only_in_ground_truth": "classes of the ground truth that were not labeled",
}
SEMANTIC_NOTE = (
    "This ground truth does not separate the objects of a class: all pixels of a class in an image are one object. For "
    " images with several objects, only the semantic IoU is meaningful."
)


def notes(evaluation: Evaluation) -> list[str]:
    """What the measures include besides the models' candidates and the gate's verdicts, and what is left out."""
    lines = []
    if evaluation.decided:
        lines.append(f"people's decisions on {evaluation.decided} instances are included in every figure")
    if evaluation.include_review:
        lines.append("instances under review count as accepted, because the dataset includes them")
    return lines + [f"ground truth: {note}" for note in evaluation.ground_truth_notes]


def verdict_rows(evaluation: Evaluation) -> Rows:
    """How good the gate's verdicts are: a row for each class with objects or accepted instances, and one for all."""
    rows = [["class", "objects", "accepted", "precision", "recall", "F1", "FN", "FP"]]
    for each in _shown(evaluation):
        rates = map(number, (each.precision, each.recall, each.f1))
        errors = str(each.false_negatives), str(each.false_positives)
        rows.append([each.name, str(each.objects), str(each.accepted), *rates, *errors])
    return rows


def overlap_rows(evaluation: Evaluation) -> Rows:
    """How good the masks and the ranking of the candidates are, with the same rows as ``verdict_rows``."""
    tolerant = evaluation.measured.total.overlap.tolerant_iou is not None
    header = ["class", *_overlap_header(tolerant), "semantic", "mask AP", "AP50", "AP75", "box AP"]
    return [
        header,
        *(
            [
                each.name,
                *_overlap(each.overlap, tolerant),
                *map(number, (each.semantic_iou, each.mask.ap, each.mask.ap50, each.mask.ap75, each.box.ap)),
            ]
            for each in _shown(evaluation)
        ),
    ]


def _shown(evaluation: Evaluation) -> list[ClassMeasures]:
    measured = evaluation.measured
    return [*(each for each in measured.classes if each.objects or each.accepted), measured.total]


def single_rows(evaluation: Evaluation) -> Rows:
    """How good the masks are that each rule picks; only the header if an image has several objects."""
    single = evaluation.measured.single
    tolerant = any(each.tolerant_iou is not None for each in single.values())
    header = ["one mask per image, by", "images", *_overlap_header(tolerant)]
    return [header, *([rule, str(each.pairs), *_overlap(each, tolerant)] for rule, each in single.items())]


def coco_lines(metrics: CocoMetrics) -> list[str]:
    """The twelve lines that pycocotools prints."""
    lines = []
    for what, iou, area, limit, value in (
        ("Precision", "0.50:0.95", "all", COCO_LIMIT, metrics.ap),
        ("Precision", "0.50", "all", COCO_LIMIT, metrics.ap50),
        ("Precision", "0.75", "all", COCO_LIMIT, metrics.ap75),
        ("Precision", "0.50:0.95", "small", COCO_LIMIT, metrics.ap_small),
        ("Precision", "0.50:0.95", "medium", COCO_LIMIT, metrics.ap_medium),
        ("Precision", "0.50:0.95", "large", COCO_LIMIT, metrics.ap_large),
        ("Recall", "0.50:0.95", "all", 1, metrics.ar1),
        ("Recall", "0.50:0.95", "all", 10, metrics.ar10),
        ("Recall", "0.50:0.95", "all", COCO_LIMIT, metrics.ar),
        ("Recall", "0.50:0.95", "small", COCO_LIMIT, metrics.ar_small),
        ("Recall", "0.50:0.95", "medium", COCO_LIMIT, metrics.ar_medium),
        ("Recall", "0.50:0.95", "large", COCO_LIMIT, metrics.ar_large),
    ):
        shown = -1.0 if value is None else value
        lines.append(
            f" {'Average ' + what:<18} (A{what[0]}) @[ IoU={iou:<9} | area={area:>6s} | maxDets={limit:>3d} ] = "
            f"{shown:0.3f}"
        )
    return lines


def lvis_metrics(evaluation: Evaluation) -> dict[str, dict[str, float | None]]:
    """LVIS's figures for masks and boxes. Those by class frequency need ground truth that states frequencies."""
    by_kind = {}
    for kind, total in (("mask", evaluation.measured.total.mask), ("box", evaluation.measured.total.box)):
        figures = {"AP": total.ap, "AP50": total.ap50, "AP75": total.ap75}
        figures |= {"APs": total.ap_small, "APm": total.ap_medium, "APl": total.ap_large}
        for frequency in FREQUENCIES:
            in_group = [
                each.mask if kind == "mask" else each.box
                for each, group in zip(evaluation.measured.classes, evaluation.frequencies, strict=False)
                if group == frequency
            ]
            figures[f"AP{frequency}"] = CocoMetrics.mean(in_group).ap
        by_kind[kind] = figures
    return by_kind


def lvis_rows(evaluation: Evaluation) -> Rows:
    """``lvis_metrics``, a row for masks and one for boxes."""
    metrics = lvis_metrics(evaluation)
    header = ["", *next(iter(metrics.values()))]
    return [header, *([kind, *map(number, figures.values())] for kind, figures in metrics.items())]


def number(value: float | None) -> str:
    """A measure with three decimals; a dash for None."""
    return "–" if value is None else f"{value:.3f}"


def print_rows(console: Console, rows: Rows, limit: int | None = None, bold_last: bool = False) -> None:
    """Print a table. With more than ``limit`` rows, those before the last one are cut, and their number is shown."""
    table = Table(box=None, pad_edge=False)
    for column, name in enumerate(rows[0]):
        longest = max(len(row[column]) for row in rows)  # in a narrow terminal too, no figure is cut
        table.add_column(name, justify="right" if column else "left", no_wrap=True, min_width=longest)
    lines = rows[1:]
    left_out = 0 if limit is None else max(0, len(lines) - limit)
    for index, line in enumerate(lines):
        last = index == len(lines) - 1
        if left_out and last:
            table.add_row(f"… {left_out} more", style="dim")
        if last or index < len(lines) - 1 - left_out:
            table.add_row(*map(escape, line), style="bold" if bold_last and last else None)
    console.print(table, crop=False)


def markdown(rows: Rows) -> str:
    """A table in Markdown."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (lines[0], rule, *lines[1:]))


def _overlap_header(tolerant: bool) -> list[str]:
    return ["IoU", "boundary", *["tolerant"] * tolerant]


def _overlap(overlap: Overlap, tolerant: bool) -> Sequence[str]:
    values = [overlap.iou, overlap.boundary_iou, *[overlap.tolerant_iou] * tolerant]
    return [number(value) for value in values]
