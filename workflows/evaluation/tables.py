"""An evaluation as tables, on the terminal and in Markdown; and in the shape in which benchmarks publish theirs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labeler.metrics.coco import COCO_LIMIT, CocoMetrics
from labeler.metrics.measures import ClassMeasures, Overlap
from workflows.evaluation.evaluate import Evaluation

Rows = list[list[str]]  # the first one is the header
FREQUENCIES = "rcf"
SIDES = {
    "only_labeled": "images without truth",
    "only_true": "images of the truth that are not labeled",
    "other_size": "images of another size in the truth, not compared",
    "failed": "images that could not be labeled; their objects count as missed",
    "classes_only_labeled": "classes without truth, not compared",
    "classes_only_true": "classes of the truth that nothing was labeled with",
}
SEMANTIC_NOTE = (
    "The truth does not tell objects of a class apart: all of an image's pixels of a class are one object there. Where "
    "an image shows several, look at semantic IoU alone."
)


def notes(evaluation: Evaluation) -> list[str]:
    """What figures of the dataset hold that the models did not do, or the gate did not accept."""
    found = []
    if evaluation.decided:
        found.append(f"{evaluation.decided} instances are as people decided, in every figure")
    if evaluation.include_review:
        found.append("instances under review count as accepted, since the dataset holds them")
    return found


def verdict_rows(evaluation: Evaluation) -> Rows:
    """How right the gate's verdicts are: a line a class that is in the truth or was accepted, and one for all."""
    rows = [["class", "objects", "accepted", "precision", "recall", "F1", "misses", "extras"]]
    for of in _shown(evaluation):
        rates = map(number, (of.precision, of.recall, of.f1))
        rows.append([of.name, str(of.objects), str(of.accepted), *rates, str(of.misses), str(of.extras)])
    return rows


def overlap_rows(evaluation: Evaluation) -> Rows:
    """How good the masks are, and the candidates' ranking: the same lines."""
    tolerant = evaluation.measured.total.overlap.tolerant_iou is not None
    header = ["class", *_overlap_header(tolerant), "semantic", "mask AP", "AP50", "AP75", "box AP"]
    return [
        header,
        *(
            [
                of.name,
                *_overlap(of.overlap, tolerant),
                *map(number, (of.semantic_iou, of.mask.ap, of.mask.ap50, of.mask.ap75, of.box.ap)),
            ]
            for of in _shown(evaluation)
        ),
    ]


def _shown(evaluation: Evaluation) -> list[ClassMeasures]:
    measured = evaluation.measured
    return [*(each for each in measured.classes if each.objects or each.accepted), measured.total]


def single_rows(evaluation: Evaluation) -> Rows:
    """How good the one mask is that each rule picks; no line but the header for a set of several objects an image."""
    single = evaluation.measured.single
    tolerant = any(each.tolerant_iou is not None for each in single.values())
    header = ["the one mask, picked by", "images", *_overlap_header(tolerant)]
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
    """LVIS's figures of masks and of boxes; those of rare, common and frequent classes if the truth says which are."""
    found = {}
    for kind, total in (("mask", evaluation.measured.total.mask), ("box", evaluation.measured.total.box)):
        figures = {"AP": total.ap, "AP50": total.ap50, "AP75": total.ap75}
        figures |= {"APs": total.ap_small, "APm": total.ap_medium, "APl": total.ap_large}
        for frequency in FREQUENCIES:
            of_group = [
                each.mask if kind == "mask" else each.box
                for each, group in zip(evaluation.measured.classes, evaluation.frequencies, strict=False)
                if group == frequency
            ]
            figures[f"AP{frequency}"] = CocoMetrics.mean(of_group).ap
        found[kind] = figures
    return found


def lvis_rows(evaluation: Evaluation) -> Rows:
    metrics = lvis_metrics(evaluation)
    header = ["", *next(iter(metrics.values()))]
    return [header, *([kind, *map(number, figures.values())] for kind, figures in metrics.items())]


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def print_rows(console: Console, rows: Rows, limit: int | None = None, bold_last: bool = False) -> None:
    """A table; of more than ``limit`` lines those in the middle are left out, and counted."""
    table = Table(box=None, pad_edge=False)
    for position, name in enumerate(rows[0]):
        longest = max(len(row[position]) for row in rows)  # a figure is shown whole, in a narrow terminal too
        table.add_column(name, justify="right" if position else "left", no_wrap=True, min_width=longest)
    lines = rows[1:]
    left_out = 0 if limit is None else max(0, len(lines) - limit)
    for position, line in enumerate(lines):
        last = position == len(lines) - 1
        if left_out and last:
            table.add_row(f"… {left_out} more", style="dim")
        if last or position < len(lines) - 1 - left_out:
            table.add_row(*map(escape, line), style="bold" if bold_last and last else None)
    console.print(table, crop=False)


def markdown(rows: Rows) -> str:
    """A table."""
    lines = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (lines[0], rule, *lines[1:]))


def _overlap_header(tolerant: bool) -> list[str]:
    return ["IoU", "boundary", *["tolerant"] * tolerant]


def _overlap(overlap: Overlap, tolerant: bool) -> Sequence[str]:
    values = [overlap.iou, overlap.boundary_iou, *[overlap.tolerant_iou] * tolerant]
    return [number(value) for value in values]
