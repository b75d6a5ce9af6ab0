"""``labeler preview``."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

from rich.console import Console

from labeler.errors import UsageError
from labeler.files.storage import local_path
from labeler.quality import VERDICTS
from workflows.commands.flags import (
    add_class_flags,
    add_model_flags,
    add_ontology_flags,
    add_quality_flags,
    add_tagging_flags,
    job_from,
)
from workflows.reporting.preview import IMAGES, PreviewSummary, preview


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
    from workflows.commands.console import ConsoleProgress

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
