"""``labeler preview``: a few images labeled and drawn on one sheet, the quick look before the long run."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import webbrowser
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from labeler.errors import UsageError
from labeler.storage import local_path
from workflows.config import (
    add_class_flags,
    add_model_flags,
    add_ontology_flags,
    add_quality_flags,
    add_tagging_flags,
    job_from,
)
from workflows.label import LabelJob, Progress, recorded
from workflows.labeled import open_labeled
from workflows.pools import EngineConfig
from workflows.tallies import VERDICTS

IMAGES, MOST = 8, 100
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class PreviewSummary:
    """What a preview found.

    Attributes:
        verdicts: instances by verdict.
        failures: (image id, error).
    """

    path: Path
    images: int
    verdicts: Counter[str]
    failures: list[tuple[str, str]]


def add_preview_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", help="as of label")
    parser.add_argument("-o", "--output", type=local_path, metavar="FILE", help="the sheet (default: preview.png)")
    text = f"images to label, the same ones every time (default: {IMAGES})"
    parser.add_argument("--images", dest="sample", type=int, metavar="N", help=text)
    add_ontology_flags(parser)
    add_model_flags(parser)
    add_tagging_flags(parser, gate=True)
    add_quality_flags(parser)
    add_class_flags(parser)


def run_preview(options: dict[str, Any], console: Console) -> PreviewSummary:
    """The ``preview`` command: label, write the sheet, say where it is and open it for who sits before a screen."""
    from workflows.console import ConsoleProgress

    path = options.pop("output", Path("preview.png"))
    if options.get("sample", IMAGES) < 1:
        raise UsageError(f"--images must be 1 or more, not {options['sample']}")
    job = job_from({"sample": IMAGES, **options, "output": Path()})
    progress = ConsoleProgress(console)
    try:
        summary = preview(job, path, progress)
    finally:
        progress.close()
    for image_id, error in summary.failures:
        console.print(f"could not be labeled: {image_id}: {error}", highlight=False, markup=False)
    counts = ", ".join(f"{verdict} {summary.verdicts[verdict]}" for verdict in VERDICTS)
    console.print(f"{summary.images} images: {counts}; {path}", highlight=False, markup=False)
    if console.is_terminal and _has_display():
        webbrowser.open(path.absolute().as_uri())
    return summary


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"})


def preview(job: LabelJob, path: Path, progress: Progress) -> PreviewSummary:
    """Label the images of ``job``, in this process, and write one sheet of them; nothing else stays.

    Args:
        job: its output is not used; ``sample`` says how many images.

    Raises:
        UsageError: ``path`` is not that of a picture; and what ``label`` raises.
    """
    if (job.sample or IMAGES) > MOST:
        raise UsageError(f"--images {job.sample} are too many for one sheet; take {MOST} or fewer, or label them all")
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {path}: the sheet is a picture; give it a name that ends in {', '.join(SUFFIXES)}")
    from workflows.sheets import write_sheet

    with tempfile.TemporaryDirectory(prefix="labeler-") as folder:
        job = replace(job, output=Path(folder, "run"), engine=EngineConfig("local"))
        with recorded(job, progress):
            pass
        labeled = open_labeled(job.output)
        judged = list(labeled.judged())
        write_sheet(judged, labeled.root, labeled.ontology.class_names, path)
    verdicts = Counter(judgement.verdict for _, judgements in judged for judgement in judgements)
    failures = [(record.image_id, record.error) for record, _ in judged if record.status == "error"]
    return PreviewSummary(path, len(judged), Counter(verdicts), failures)
