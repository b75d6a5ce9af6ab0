"""``labeler review --to`` and ``--from``: review sets for annotation tools, and their corrections."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import absolute, local_path, locate
from labeler.setting import setting
from workflows.settings.review_sets import TOOLS

if TYPE_CHECKING:
    from rich.console import Console

    from labeler.decisions import Decision
    from labeler.files.storage import AnyPath
    from workflows.dataset.labeled import Labeled

logger = logging.getLogger(__name__)

GROUP = "annotation tools"
SHOWN_FAULTS = 20


@dataclass(frozen=True)
class ExchangeOptions:
    """What goes to an annotation tool, and what comes back."""

    to: str | None = setting(
        None, "write a review set with pre-filled masks for this tool", choices=TOOLS, group=GROUP, unset="none"
    )
    folder: Path | None = setting(
        None, "with --to: folder to write", metavar="DIR", names=("-o", "--folder"), parse=local_path, group=GROUP,
        unset="none",
    )  # fmt: skip
    limit: int | None = setting(
        None, "with --to: send N images, the most uncertain first", metavar="N", group=GROUP, least=1, unset="all"
    )
    image_url: str | None = setting(
        None,
        "with --to label-studio: prefix of the image URLs",
        metavar="PREFIX",
        group=GROUP,
        unset="Label Studio's local storage",
    )
    returned: AnyPath | None = setting(
        None,
        "read decisions from a tool's corrected export, or from OUT itself if you edited its label or COCO files, and "
        "write the dataset",
        metavar="FILE",
        names=("--from",),
        parse=locate,
        group=GROUP,
        unset="none",
    )


def send(labeled: Labeled, options: ExchangeOptions, verdict: str, console: Console) -> str:
    """Write the review set that the flags ask for, and say how to go on; the last line is returned."""
    from workflows.review.exchange import export_review_set

    folder = options.folder
    if options.to is None or folder is None:
        raise UsageError(f"--to {options.to} needs -o DIR, a folder to make")
    review_set = export_review_set(labeled, options.to, folder, verdict, options.limit, options.image_url)
    if review_set.rejected:
        are = "is" if review_set.rejected == 1 else "are"
        text = f"{review_set.rejected} of them {are} rejected: delete the wrong ones in the tool, the rest is accepted"
        console.print(text, highlight=False)
    if review_set.missing:
        console.print(f"{len(review_set.missing)} images are gone and were left out", highlight=False)
    console.print(_HOW_TO[review_set.tool].format(folder=folder.resolve(), parent=folder.resolve().parent),
                  highlight=False, markup=False, soft_wrap=True)  # fmt: skip
    return f"{review_set.instances} instances in {review_set.images} images: {folder}"


def is_own(returned: AnyPath, output: AnyPath) -> bool:
    """Whether ``--from`` names the dataset itself.

    Raises:
        UsageError: it names a single file or folder of the dataset.
    """
    own, path = (str(absolute(each)).rstrip("/") for each in (output, returned))
    if path.startswith((f"{own}/labels/", f"{own}/annotations/")) or path in (f"{own}/labels", f"{own}/annotations"):
        raise UsageError(f"{returned}: part of the dataset; write --from {output} to take in what you edited in it")
    return path == own


def say_faults(faults: Sequence[str]) -> None:
    """Warn of edits that are not taken in: a line each, up to a number of them."""
    for fault in faults[:SHOWN_FAULTS]:
        logger.warning("not taken in: %s", fault)
    if len(faults) > SHOWN_FAULTS:
        logger.warning("not taken in: %d more", len(faults) - SHOWN_FAULTS)


def print_decisions(console: Console, decisions: Sequence[Decision], unchanged: str = "accepted as sent") -> None:
    """Print what ``--from`` read, in one line; ``unchanged`` is what is said of objects without a change."""
    counts = Counter(_what(decision) for decision in decisions)
    texts = {what: what for what in _WHAT} | {_WHAT[0]: unchanged}
    text = ", ".join(f"{counts[what]} {texts[what]}" for what in _WHAT if counts[what]) or "nothing to decide"
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
