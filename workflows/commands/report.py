"""``labeler report``: one HTML page about a labeled folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import as_local, locate
from labeler.setting import setting
from workflows.commands.export import IMAGES, OUT
from workflows.commands.options import Command, Outcome
from workflows.settings.pages import SAMPLES_EACH, SAMPLES_TOTAL

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.commands.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    folder: AnyPath = setting(help=OUT, metavar="OUT", positional=True, parse=locate)
    output: AnyPath | None = setting(
        None, "page to write", metavar="FILE", names=("-o", "--output"), parse=locate, unset="OUT/report.html"
    )
    samples: int = setting(
        SAMPLES_EACH, f"instances to show per class and verdict, up to {SAMPLES_TOTAL} in all", metavar="N", least=1
    )
    seed: int = setting(0, "seed for choosing which instances to show", metavar="N")
    images: str | None = setting(None, IMAGES, metavar="URI", unset="images are read from the dataset")


def run_report(options: ReportOptions, console: Terminal) -> Outcome:
    from workflows.dataset.labeled import open_labeled
    from workflows.reporting.report import report

    labeled = open_labeled(options.folder, options.images)
    path = options.output
    if path and (file := as_local(path)) and file.is_dir():
        raise UsageError(f"-o {path} is a folder; name the file, such as {path / 'report.html'}")
    summary = report(labeled, path, samples=options.samples, seed=options.seed)
    return Outcome(
        line=f"{summary.images} images, {summary.instances} instances, {summary.shown} of them with a picture; "
        f"{summary.size / 1e6:.1f} MB: {summary.path}"
    )


COMMAND = Command(
    ReportOptions,
    run_report,
    examples=("labeler report dataset", "labeler report dataset -o report.html --samples 50"),
)
