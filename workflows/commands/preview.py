"""``labeler preview``: a few labeled images on one picture."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.files.storage import local_path
from labeler.setting import setting
from workflows.commands.job_options import IMAGES, NOTES, DatasetOptions, TaggerOptions, job_of
from workflows.commands.labeler_options import LabelerOptions, ModelOptions, OntologyOptions
from workflows.commands.options import Command, Outcome, changes, nested
from workflows.run.exit_codes import of_result
from workflows.settings.changes import Changes
from workflows.settings.export import ExportConfig
from workflows.settings.pages import PREVIEW_IMAGES, PREVIEW_MOST

if TYPE_CHECKING:
    from workflows.commands.terminal import Terminal
    from workflows.settings.job import LabelJob


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    images: str = setting(help=IMAGES, metavar="IMAGES", positional=True)
    output: Path = setting(
        Path("preview.png"), "picture to write", metavar="FILE", names=("-o", "--output"), parse=local_path
    )
    sample: int = setting(
        PREVIEW_IMAGES,
        "images to label, the same ones every time",
        metavar="N",
        names=("--images",),
        least=1,
        most=PREVIEW_MOST,
    )
    wanted: OntologyOptions = nested(OntologyOptions)
    labelers: LabelerOptions = nested(LabelerOptions)
    models: ModelOptions = nested(ModelOptions)
    tagger: TaggerOptions = nested(TaggerOptions)
    gate: Changes[ExportConfig] = changes(ExportConfig, only=("quality", "min_tag_count", "max_classes"))

    def job(self) -> LabelJob:
        """The job that these options ask for; its output is not used.

        Raises:
            UsageError, OntologyError: an option cannot be meant.
        """
        dataset = DatasetOptions(given=self.gate)
        return job_of(
            self.images, Path(), self.wanted, self.labelers, self.models, self.tagger, dataset, sample=self.sample
        )


def run_preview(options: PreviewOptions, console: Terminal) -> Outcome:
    """Label, write the picture, and open it for who sits before a screen."""
    from workflows.commands.console import accepted_first
    from workflows.commands.progress import ConsoleProgress
    from workflows.reporting.preview import preview

    asked, path = options.job(), options.output
    progress = ConsoleProgress(console)
    try:
        summary = preview(asked, path, progress)
    finally:
        progress.close()
    for image_id, error in summary.failures:
        console.print(f"could not be labeled: {image_id}: {error}", highlight=False, markup=False)
    for line in summary.nothing_accepted:
        console.print(line, highlight=False, markup=False)
    if console.is_terminal and _has_display():
        webbrowser.open(path.absolute().as_uri())
    failed = len(summary.failures)
    exit_code = of_result(failed, failed, summary.images - failed)
    return Outcome(exit_code, f"{accepted_first(summary.verdicts, summary.images)}; {path}")


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"})


COMMAND = Command(
    PreviewOptions,
    run_preview,
    examples=(
        'labeler preview photos --classes "forklift, pallet"',
        "labeler preview photos --ontology pets.toml --model best --images 16 -o look.png",
        "labeler preview photos --tagger auto",
    ),
    first=("images", "output", "sample", "classes", "ontology", "model", "tagger", "accept_score", "config"),
    notes={title: note for title, note in NOTES.items() if title != "dataset"},
)
