"""``labeler label``: from images to a dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labeler.files.storage import locate
from labeler.setting import setting
from workflows.commands.job_options import IMAGES, NOTES, DatasetOptions, TaggerOptions, job_of
from workflows.commands.labeler_options import LabelerOptions, ModelOptions, OntologyOptions
from workflows.commands.messages import complain
from workflows.commands.options import Command, Outcome, changes, nested
from workflows.run.exit_codes import TOO_MANY_FAILURES
from workflows.settings.changes import Changes
from workflows.settings.engine import EngineConfig
from workflows.settings.job import LabelJob

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.commands.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    images: str = setting(help=IMAGES, metavar="IMAGES", positional=True)
    output: AnyPath = setting(
        help="folder or URI to write the dataset and its records to",
        metavar="OUT",
        names=("-o", "--output"),
        parse=locate,
    )
    wanted: OntologyOptions = nested(OntologyOptions)
    labelers: LabelerOptions = nested(LabelerOptions)
    models: ModelOptions = nested(ModelOptions)
    tagger: TaggerOptions = nested(TaggerOptions)
    run: Changes[LabelJob] = changes(LabelJob)
    dataset: DatasetOptions = nested(DatasetOptions)
    fast_scan: bool = setting(False, "the default by now", hidden=True)

    def job(self) -> LabelJob:
        """The job that these options ask for.

        Raises:
            UsageError, OntologyError: an option cannot be meant.
        """
        engine = Changes[EngineConfig](self.run.values).of(EngineConfig())
        labelers = replace(self.labelers, environment=engine.environment)
        made = job_of(self.images, self.output, self.wanted, labelers, self.models, self.tagger, self.dataset)
        return self.run.of(made)


def run_label(options: LabelOptions, console: Terminal) -> Outcome:
    from workflows.commands.console import print_label_summary
    from workflows.commands.progress import ConsoleProgress
    from workflows.label import label

    asked = options.job()
    progress = ConsoleProgress(console)
    try:
        summary = label(asked, progress)
    finally:
        progress.close()
    print_label_summary(console, summary, asked.output)
    if summary.run.exit_code == TOO_MANY_FAILURES:
        failed = len(summary.dataset.new_failures)
        complain(
            f"{failed} images failed, more than --max-failures {asked.max_failures} allows, some of them when the "
            "dataset was written; it holds the others"
        )
    return Outcome(summary.run.exit_code, summary.run.line())


COMMAND = Command(
    LabelOptions,
    run_label,
    examples=(
        'labeler label photos -o dataset --classes "forklift, pallet, high-visibility vest=vest"',
        "labeler label photos -o dataset --ontology pets.toml --model best --workers 8",
        'labeler label s3://bucket/photos -o s3://bucket/dataset --classes "dog, cat" --config job.toml',
    ),
    first=(
        "images", "output", "classes", "ontology", "model", "tagger", "accept_score", "val_share", "formats", "workers",
        "retry_failed", "max_failures", "config",
    ),
    notes=NOTES,
)  # fmt: skip
