"""``labeler tune``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.storage import local_path, locate

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from labeler.quality import QualityConfig
    from workflows.tune import Tuned

NAMES_SHOWN = 5


def add_tune_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", type=locate, help="a labeled folder, or its URI")
    parser.add_argument(
        "-o", dest="tuned", type=local_path, required=True, metavar="FILE.toml", help="thresholds, for export --config"
    )
    parser.add_argument("--truth", metavar="T", help="of some of the images, as of evaluate")
    parser.add_argument(
        "--target",
        metavar="TARGET",
        help="f1 (default); precision=0.9: the highest recall at that precision, each class by itself; review=200: "
        "about so many instances are left to review, the most uncertain ones; takes no truth",
    )
    parser.add_argument("--map", metavar="TEXT", help='labeled=truth, where class names differ: "puppy=dog"')
    parser.add_argument(
        "--min-examples", type=int, metavar="N", help="objects for a threshold of a class's own (default: 20)"
    )
    parser.add_argument("--folds", type=int, metavar="K", help="of the cross-validation (default: 5)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the folds and the bootstrap")


def run_tune(options: dict[str, Any], console: Console) -> int:
    """The ``tune`` command; its exit code is returned."""
    from labeler.formats.truth import read_truth
    from workflows.evaluate_command import class_map_from
    from workflows.labeled import open_labeled
    from workflows.review_band import review_band
    from workflows.tune import TuneConfig, tune

    path, target = options["tuned"], options.get("target", "f1")
    if path.suffix != ".toml":
        raise UsageError(f"-o {path}: thresholds are written as TOML; give it a name that ends in .toml")
    kind, number = target_from(target)
    if kind == "review":
        if given := options.keys() & {"truth", "map", "min_examples", "folds", "seed"}:
            raise UsageError(f"--target review goes by scores alone; leave --{min(given).replace('_', '-')} out")
        band = review_band(open_labeled(options["output"]), int(number))
        about = f"{band.found} instances to review (wanted: {band.wanted}), {band.accepted} accepted"
        quality = band.quality
        console.print(
            f"{about}; joint score {quality.min_joint_score:.3f} to {quality.accept_score:.3f}", highlight=False
        )
    else:
        if "truth" not in options:
            raise UsageError("--truth is missing: labels of some of the images; only --target review=N needs none")
        config = TuneConfig(
            precision=number if kind == "precision" else None,
            class_map=class_map_from(options.get("map", "")),
            **{name: options[name] for name in ("min_examples", "folds", "seed") if name in options},
        )
        labeled = open_labeled(options["output"])
        tuned = tune(labeled, read_truth(options["truth"], labeled.run.sizes), config)
        about = f"{target} on {tuned.images} images: F1 {tuned.before.f1:.3f}, {tuned.after.f1:.3f} expected"
        quality = tuned.quality
        print_tuned(console, tuned)
    write_thresholds(path, quality, about)
    console.print(
        f"written: {path}; now: labeler export {options['output']} --config {path}", highlight=False, markup=False
    )
    return 0


def target_from(text: str) -> tuple[str, float]:
    """``f1``, ``precision`` or ``review``, and its number.

    Raises:
        UsageError: it is none of these.
    """
    kind, _, value = text.partition("=")
    if text == "f1":
        return kind, 0
    try:
        number = float(value)
        if (kind == "precision" and 0 < number <= 1) or (kind == "review" and number >= 1 and number == int(number)):
            return kind, number
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"--target {text}: write f1, precision=0.9 (above 0, at most 1) or review=200 (a whole number)")


def write_thresholds(path: Path, quality: QualityConfig, about: str) -> None:
    """Write ``quality`` as what ``labeler export --config`` reads, under ``about`` as a comment."""
    import tomli_w

    from labeler.storage import write_bytes

    content = {name.replace("_", "-"): value for name, value in quality.to_dict().items()}
    if of_classes := content.pop("class-accept-scores"):
        content["class-accept-score"] = of_classes
    write_bytes(path, f"# {about}\n{tomli_w.dumps(content)}".encode())


def print_tuned(console: Console, tuned: Tuned) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("examples", "threshold", "F1 now", "expected"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for each in tuned.classes:
        figures = [f"{counts.f1:.3f}" if counts.true else "–" for counts in (each.before, each.after)]
        table.add_row(
            escape(", ".join(each.names)), str(each.after.true), f"{each.accept_score:.3f}", *figures, each.note
        )
    figures = [f"{counts.f1:.3f}" for counts in (tuned.before, tuned.after)]
    table.add_row("all", str(tuned.after.true), f"{tuned.quality.accept_score:.3f}", *figures, style="bold")
    console.print(table)
    for metric, (gain, low, high) in tuned.gains.items():
        console.print(
            f"{metric.replace('f1', 'F1')}: {getattr(tuned.before, metric):.3f} now, "
            f"{getattr(tuned.after, metric):.3f} expected, {gain:+.3f} (95 % interval {low:+.3f} to {high:+.3f})",
            highlight=False,
        )
    quality = tuned.quality
    console.print(
        f"all classes: mask score {quality.min_mask_score:g}, stability {quality.min_stability:g}, duplicates from IoU "
        f"{quality.duplicate_iou:g}, of another class from {quality.cross_class_iou:g}",
        highlight=False,
    )
    left_out = (
        (tuned.only_labeled, "only labeled"),
        (tuned.only_true, "only in the truth"),
        (tuned.other_size, "of another size there"),
    )
    console.print(
        f"{tuned.images} images, {min(tuned.config.folds, tuned.images)}-fold cross-validation"
        + "".join(f"; {count} images {what}" for count, what in left_out if count),
        highlight=False,
    )
    if names := tuned.classes_only_true:
        shown = ", ".join(names[:NAMES_SHOWN]) + (f", … ({len(names)})" if len(names) > NAMES_SHOWN else "")
        console.print(f"classes of the truth that nothing was labeled with: {shown}", highlight=False, markup=False)
    if tuned.config.precision is None and tuned.gains["f1"][1] <= 0:
        console.print("no gain is sure yet: truth of more images would tell", highlight=False)
