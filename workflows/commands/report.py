"""``labeler report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from labeler.errors import UsageError
from labeler.files.storage import locate
from workflows.commands.flags import add_images_flag
from workflows.dataset.labeled import open_labeled
from workflows.reporting.report import SAMPLES_EACH, SAMPLES_TOTAL, report


def add_report_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="OUT", type=locate, help="a labeled folder, or its URI")
    parser.add_argument("-o", "--output", type=locate, metavar="FILE", help="the page (default: OUT/report.html)")
    text = f"instances shown of each class and verdict, at most (default: {SAMPLES_EACH}; {SAMPLES_TOTAL} in all)"
    parser.add_argument("--samples", type=int, metavar="N", help=text)
    parser.add_argument("--seed", type=int, metavar="N", help="of the choice of what is shown (default: 0)")
    add_images_flag(parser)


def run_report(options: dict[str, Any], console: Console) -> int:
    """The ``report`` command; its exit code is returned."""
    labeled = open_labeled(options.pop("folder"), options.pop("images", None))
    path = options.pop("output", None)
    if isinstance(path, Path) and path.is_dir():
        raise UsageError(f"-o {path} is a folder; name the file, such as {path / 'report.html'}")
    summary = report(labeled, path, **options)
    console.print(
        f"{summary.images} images, {summary.instances} instances, {summary.shown} of them with a picture; "
        f"{summary.size / 1e6:.1f} MB: {summary.path}",
        highlight=False,
        markup=False,
    )
    return 0
