"""What ``labeler review`` says to and of annotation tools: its flags ``--to`` and ``--from``."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.files.storage import local_path, locate
from workflows.review.exchange import TOOLS, export_review_set

if TYPE_CHECKING:
    from workflows.dataset.labeled import Labeled


def add_exchange_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("annotation tools")
    group.add_argument("--to", choices=TOOLS, help="write a review set with pre-filled masks for this tool")
    group.add_argument("-o", "--folder", type=local_path, metavar="DIR", help="--to: folder to make")
    group.add_argument("--limit", type=int, metavar="N", help="--to: of the images, the most uncertain first")
    group.add_argument("--image-url", metavar="PREFIX", help="--to label-studio: what stands before an image's name")
    group.add_argument("--from", type=locate, metavar="FILE", help="a tool's corrected export: as --apply")


def send(labeled: Labeled, options: dict[str, Any], console: Console) -> None:
    """Write the review set that the flags ask for, and say how to go on."""
    if "folder" not in options:
        raise UsageError(f"--to {options['to']} needs -o DIR, a folder to make")
    folder = options["folder"]
    given = {name: options[name] for name in ("verdict", "limit", "image_url") if name in options}
    review_set = export_review_set(labeled, options["to"], folder, **given)
    text = f"{review_set.instances} instances in {review_set.images} images: {folder}"
    console.print(text, highlight=False, markup=False)
    if review_set.missing:
        console.print(f"{len(review_set.missing)} images are gone, and left out", highlight=False)
    console.print(_HOW_TO[review_set.tool].format(folder=folder.resolve(), parent=folder.resolve().parent),
                  highlight=False, markup=False, soft_wrap=True)  # fmt: skip


def print_decisions(console: Console, decisions: Sequence[Decision]) -> None:
    """What was read with ``--from``, in one line."""
    counts = Counter(_what(decision) for decision in decisions)
    text = ", ".join(f"{counts[what]} {what}" for what in _WHAT if counts[what]) or "nothing to decide"
    console.print(f"{len({decision.image_id for decision in decisions})} images: {text}", highlight=False)


_WHAT = ("accepted as sent", "with another class", "with another mask", "added", "rejected")


def _what(decision: Decision) -> str:
    if decision.verdict == "reject":
        return "rejected"
    if decision.rle is None:
        return "added"
    if decision.new_rle is not None:
        return "with another mask"
    return "with another class" if decision.new_class else "accepted as sent"


_HOW_TO = {
    "label-studio": """\
Start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={parent}; make a project with labeling_config.xml, add
the local storage {folder}/images (no sync), import tasks.json. When done: Export, JSON.""",
    "cvat": """\
Make a task with the labels of labels.json (Raw) and the images in {folder}/images, then Upload annotations: "CVAT 1.1",
annotations.xml. When done: Export task dataset, "CVAT for images 1.1".""",
    "fiftyone": """\
import fiftyone as fo
dataset = fo.Dataset.from_dir(dataset_dir="{folder}", dataset_type=fo.types.COCODetectionDataset,
                              label_types="segmentations", label_field="objects")
When done: dataset.export(labels_path="corrected.json", dataset_type=fo.types.COCODetectionDataset,
                          label_field="objects", iscrowd="exact_mask")""",
}
