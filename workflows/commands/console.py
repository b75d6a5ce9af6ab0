"""The summary that the terminal shows when a job is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sized
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labeler.decisions import Decision
from labeler.files.storage import info
from labeler.formats.splits import SPLITS
from labeler.geometry.masks import rle_box_xyxy
from labeler.quality import VERDICTS
from workflows.commands.progress import of_workers
from workflows.dataset.export_summary import ExportSummary
from workflows.dataset.journal import SET_ASIDE
from workflows.dataset.split_notes import leak_in_words
from workflows.label import LabelSummary
from workflows.run.reading import kept_deep_line
from workflows.run.shard_report import ShardReport
from workflows.tag import TagSummary

if TYPE_CHECKING:
    from pathlib import Path

    from labeler.files.storage import AnyPath

FAILURES_SHOWN = 10
PROPOSALS_SHOWN = 40


def print_label_summary(console: Console, summary: LabelSummary, output: AnyPath) -> None:
    print_dataset(console, summary.dataset, output)
    if not summary.dataset.sights and (line := kept_deep_line(summary.labeled)):
        console.print(line, highlight=False)
    stages = {**summary.seconds, **{f"{k} (in label)": v for k, v in summary.labeled.seconds.items()}}
    timed = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items() if seconds >= 0.05)
    if summary.labeled.images:
        seconds = max(summary.seconds["label"], 1e-9)
        rate = summary.labeled.images / seconds
        busy = summary.labeled.seconds["model"] / seconds / max(len(summary.labeled.workers), 1)
        console.print(
            f"{summary.labeled.images} images labeled in this run, "
            f"{rate:.1f} images/s{of_workers(summary.labeled, seconds)}, "
            f"models busy {busy:.0%} of the time; the first after {summary.first_image:.1f} s",
            highlight=False,
        )
    if summary.labeled.ungated:
        taken, ungated = summary.labeled.forward_passes, summary.labeled.ungated
        console.print(f"forward passes of the detector: {taken} with the gate, {ungated} without it", highlight=False)
    _print_tagging(console, summary.labeled)
    if summary.labeled.splits:
        console.print(f"{summary.labeled.splits} batches failed and were halved", highlight=False)
    if largest := summary.labeled.largest_batch:
        console.print(f"--batch-size auto: up to {largest} images per batch fitted", highlight=False)
    for model, gain in summary.labeled.compiled.items():
        console.print(
            f"--compile: {model} takes {gain.after_ms:.0f} ms an image instead of {gain.before_ms:.0f}, measured after "
            f"{gain.seconds:.0f} s of compiling",
            highlight=False,
        )
    if timed:
        console.print(f"seconds: {timed}", highlight=False)


def print_tag_summary(console: Console, summary: TagSummary, asked: Path) -> None:
    """The proposed classes, what failed, and how to go on."""
    path = summary.written
    table = Table(box=None, pad_edge=False)
    for name, justify in (("class", "left"), ("images", "right"), ("mean score", "right"), ("prompts", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for found in summary.proposals[:PROPOSALS_SHOWN]:
        table.add_row(
            escape(found.name), str(found.images), f"{found.mean_score:.2f}", escape(", ".join(found.prompts))
        )
    console.print(table)
    if (more := len(summary.proposals) - PROPOSALS_SHOWN) > 0:
        console.print(f"… and {more} more classes, in the file", highlight=False)
    console.print(f"{summary.images} images tagged, {summary.without_tags} of them without a tag", highlight=False)
    _print_names(console, "could not be tagged", [f"{image_id}: {error}" for image_id, error in summary.run.new])
    _print_old(console, len(summary.run.old))
    _print_tagging(console, summary.tagged)
    if summary.tagged.images:
        rate = summary.tagged.images / max(summary.seconds["label"], 1e-9)
        console.print(f"{summary.tagged.images} images tagged now, {rate:.1f} a second", highlight=False)
    if path != asked:
        console.print(f"{asked} was edited, so it stays as it is", highlight=False, markup=False)
    console.print(f"proposed: {path}; edit it, then: labeler label IMAGES -o OUT --ontology {path}", highlight=False)


def _print_tagging(console: Console, report: ShardReport) -> None:
    if report.untagged:
        console.print(
            f"the tagger failed on {report.untagged} images, which were asked for every class; --retry-failed takes "
            "them again",
            highlight=False,
        )
    if report.unparsed:
        console.print(f"{report.unparsed} answers of the tagger held no tag", highlight=False)


def _s(names: Sized) -> str:
    return "" if len(names) == 1 else "s"


def _print_names(console: Console, what: str, names: list[str], count: int | None = None) -> None:
    """Print the first names; ``count`` is the number of all, if ``names`` does not hold all."""
    if not names:
        return
    count = len(names) if count is None else count
    console.print(f"{count} {what}:", highlight=False)
    for name in names[:FAILURES_SHOWN]:
        console.print(f"  {name}", highlight=False, markup=False)
    if count > FAILURES_SHOWN:
        console.print(f"  … and {count - FAILURES_SHOWN} more", highlight=False)


def _print_old(console: Console, failures: int) -> None:
    if failures:
        images = "1 image" if failures == 1 else f"{failures} images"
        console.print(
            f"{images} failed in earlier runs (see run/summary.json); `labeler label --retry-failed` tries them again",
            highlight=False,
            markup=False,
        )


def _said_of(decision: Decision) -> str:
    """Image, verdict, class, and the box of the mask along pixel edges."""
    rle = decision.rle or decision.new_rle
    assert rle is not None
    x1, y1, x2, y2 = map(int, rle_box_xyxy(rle))
    became = f" as {decision.new_class}" if decision.class_name and decision.new_class else ""
    verdict = decision.verdict if decision.class_name else "add"
    return (
        f"{decision.image_id}: {verdict} {decision.class_name or decision.new_class}{became} at {x1},{y1} to {x2},{y2}"
    )


def accepted_first(verdicts: Mapping[str, int], images: int) -> str:
    """The most important line of a summary: what was accepted, and what was not."""
    accepted, review, rejected = (verdicts[verdict] for verdict in VERDICTS)
    return f"{accepted} accepted, {review} to review, {rejected} rejected in {images} image{'' if images == 1 else 's'}"


def _print_splits(console: Console, dataset: ExportSummary) -> None:
    """What was moved between splits, what was not, and what leaks from one into another."""
    splits = dataset.splits
    if splits.resplit:
        console.print(f"{splits.moved} image{'' if splits.moved == 1 else 's'} moved to another split", highlight=False)
    if dataset.split_flags:
        console.print(
            f"{' and '.join(dataset.split_flags)} changed: this applies to new images; {splits.kept} images keep their "
            "split (--resplit splits all images anew)",
            highlight=False,
        )
    if splits.unmatched:
        console.print(
            f"--split-by {splits.split_by} does not match {splits.unmatched} image ids; each of these images is in a "
            "group with its copies alone",
            highlight=False,
            markup=False,
        )
    way_out = "edited or moved by hand; put them in one split" if splits.resplit else "--resplit moves each into one"
    _print_names(
        console,
        f"group{'' if splits.leaks == 1 else 's'} in more than one split, so validation or test sees training images "
        f"({splits.leaking_images} images; {way_out})",
        [leak_in_words(leak) for leak in splits.first_leaks],
        splits.leaks,
    )


def print_dataset(console: Console, dataset: ExportSummary, output: AnyPath) -> None:
    """What was accepted, classes and verdicts, reasons, failures, and where everything is."""
    if dataset.empty_split:
        console.print(dataset.empty_split, highlight=False, markup=False)
    every = sum(dataset.verdicts.values(), Counter[str]())
    console.print(accepted_first(every, sum(dataset.images.values())), style="bold", highlight=False)
    for line in dataset.nothing_accepted:
        console.print(line, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    for name, justify in (("class", "left"), *((verdict, "right") for verdict in VERDICTS)):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    totals: Counter[str] = Counter()
    for class_name in sorted(dataset.verdicts):
        counts = dataset.verdicts[class_name]
        totals += counts
        table.add_row(escape(class_name), *(str(counts[verdict]) for verdict in VERDICTS))
    table.add_row("all", *(str(totals[verdict]) for verdict in VERDICTS), style="bold")
    console.print(table)
    if dataset.reasons:
        reasons = ", ".join(f"{reason} {count}" for reason, count in dataset.reasons.most_common())
        console.print(f"not accepted: {reasons}", highlight=False)
    if by_hand := sum(dataset.decided.values()):
        console.print(
            f"decided by hand: {by_hand} ({dataset.decided['accept']} accepted, {dataset.decided['reject']} rejected)",
            highlight=False,
        )
    if dataset.thresholds:
        console.print(f"thresholds: {dataset.thresholds}", highlight=False, markup=False)
    if dataset.changed:
        console.print(f"changed since the last run: {'; '.join(dataset.changed)}", highlight=False, markup=False)
    splits = ", ".join(f"{dataset.images[split]} {split}" for split in SPLITS if dataset.images[split]) or "none"
    console.print(f"images in the dataset: {splits}; {dataset.without_objects} without an object", highlight=False)
    if dataset.converted:
        kinds = ", ".join(f"{count} {extension}" for extension, count in dataset.converted.most_common())
        console.print(f"converted to PNG in the dataset, for trainers to read: {kinds}", highlight=False)
    for line in (*dataset.polygons.lines(), *dataset.sights):
        console.print(line, highlight=False, markup=False)
    _print_splits(console, dataset)
    for what, names in (
        ("could not be labeled", [f"{image_id}: {error}" for image_id, error in dataset.new_failures]),
        ("gone, and left out", dataset.missing),
        (f"edited file{_s(dataset.edited)} kept (see review --from, --overwrite-edits)", dataset.edited),
        (f"missing file{_s(dataset.restored)} of the dataset written again", dataset.restored),
        (f"image{_s(dataset.set_aside)} without a record, moved to {output / SET_ASIDE}", dataset.set_aside),
        ("decisions fit no object any more", [_said_of(decision) for decision in dataset.unmatched]),
    ):
        _print_names(console, what, names)
    _print_old(console, len(dataset.old_failures))
    if (version := dataset.version) is not None:
        what = "new version" if version.is_new else "no new version, since the content is that of"
        console.print(f"{what}: {version.path}", highlight=False, markup=False)
    for path, what in (
        (output / "data.yaml", "Ultralytics"),
        (output / "annotations", "COCO"),
        (output / "semantic.yaml", "semantic masks for Ultralytics"),
        (output / "roboflow", "RF-DETR"),
        (output / "voc", "Pascal VOC"),
        (output / "hf", "Hugging Face datasets"),
        (output / "webdataset", "WebDataset"),
        (output / "cutouts", "cut-outs"),
        (output / "run", "records and settings"),
    ):
        if info(path) is not None:
            console.print(f"{what}: {path}", highlight=False, markup=False)
