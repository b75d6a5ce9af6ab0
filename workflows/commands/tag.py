"""``labeler tag``: an ontology proposed from images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import local_path
from labeler.models.taggers.config import GROUP as TAGS
from labeler.setting import setting
from ontologies import read_synonyms
from workflows.commands.job_options import IMAGES, DatasetOptions, TaggerOptions, job_of
from workflows.commands.labeler_options import LabelerOptions, ModelOptions, OntologyOptions
from workflows.commands.options import Command, Outcome, changes, nested
from workflows.settings.changes import Changes
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob

if TYPE_CHECKING:
    from workflows.commands.terminal import Terminal


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    images: str = setting(help=IMAGES, metavar="IMAGES", positional=True)
    output: Path = setting(
        help="ontology file to write; the tags are kept beside it", metavar="FILE.toml", names=("-o", "--output"),
        parse=local_path,
    )  # fmt: skip
    sample: int | None = setting(None, "tag only N images, the same ones every time", metavar="N", least=1, unset="all")
    synonyms: str | None = setting(
        None, 'TOML of words that mean the same: [synonyms] dog = ["puppy"]', metavar="FILE", group=TAGS, unset="none"
    )
    classes: Changes[ExportConfig] = changes(ExportConfig, only=("min_tag_count", "max_classes"))
    models: ModelOptions = nested(ModelOptions)
    tagger: TaggerOptions = nested(TaggerOptions, without=("gate_below",), unset={"tagger": "auto"})
    run: Changes[LabelJob] = changes(LabelJob, without=("overwrite_edits", "resplit"))
    fast_scan: bool = setting(False, "the default by now", hidden=True)

    def job(self) -> LabelJob:
        """The job that these options ask for; records are kept beside the proposal.

        Raises:
            UsageError, OntologyError: an option cannot be meant.
        """
        if self.output.suffix != ".toml":
            raise UsageError(f"-o {self.output}: the proposal is a TOML file; give it a name that ends in .toml")
        given = self.tagger.given.values
        tagger = replace(self.tagger, given=Changes({"tagger": "auto", **given}))
        records = self.output.with_suffix(".tags")
        made = job_of(
            self.images, records, OntologyOptions(), LabelerOptions(), self.models, tagger, DatasetOptions(),
            tags_only=True, sample=self.sample,
        )  # fmt: skip
        # Each proposal has the settings of its own flags: this is no dataset.
        return replace(self.run.of(made), export=self.classes.of(ExportConfig()))


def run_tag(options: TagOptions, console: Terminal) -> Outcome:
    from workflows.commands.console import print_tag_summary
    from workflows.commands.progress import ConsoleProgress
    from workflows.tag import tag

    asked = options.job()
    synonyms = read_synonyms(options.synonyms) if options.synonyms is not None else {}
    progress = ConsoleProgress(console, "tagging", "tagged")
    try:
        summary = tag(asked, options.output, synonyms, progress)
    finally:
        progress.close()
    print_tag_summary(console, summary, options.output)
    return Outcome(summary.run.exit_code, summary.run.line())


COMMAND = Command(
    TagOptions,
    run_tag,
    examples=(
        "labeler tag photos -o proposed.toml",
        "labeler tag photos -o proposed.toml --sample 2000 --vocabulary openimages --min-tag-count 5",
        "labeler label photos -o dataset --ontology proposed.toml",
    ),
    first=("images", "output", "sample", "tagger", "vocabulary", "min_tag_count", "max_classes", "synonyms", "config"),
)
