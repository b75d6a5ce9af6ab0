"""``labeler export``: the dataset of a labeled folder, written again from its records."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import locate
from labeler.models.families import family_named
from labeler.setting import setting
from ontologies import read_ontology
from workflows.commands.job_options import NOTES, DatasetOptions
from workflows.commands.options import Command, Outcome, nested
from workflows.run.exit_codes import of_result
from workflows.settings.class_ids import changes_of_classes, with_ids
from workflows.settings.export import GROUP as DATASET
from workflows.settings.job import OVERWRITE_EDITS, RESPLIT
from workflows.settings.passes import prompt_keys
from workflows.settings.resolved import Settled, last_published, settle, with_min_scores
from workflows.settings.text import dropped_formats

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.commands.terminal import Terminal
    from workflows.run.folder import RunFolder
    from workflows.settings.run_settings import RunSettings

OUT = "a labeled folder, or its URI"
IMAGES = "URI to read the images from; a store that is named only in the run folder is not contacted"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    output: AnyPath = setting(help=OUT, metavar="OUT", positional=True, parse=locate)
    ontology: str | None = setting(
        None,
        "ontology file for other min_score values and class names, or with fewer classes",
        metavar="FILE",
        group=DATASET,
        unset="min_score values stay",
    )
    images: str | None = setting(None, IMAGES, metavar="URI", group=DATASET, unset="images are read from the dataset")
    dataset: DatasetOptions = nested(DatasetOptions)
    overwrite_edits: bool = setting(False, OVERWRITE_EDITS, group=DATASET)
    resplit: bool = setting(False, RESPLIT, group=DATASET)


def run_export(options: ExportOptions, console: Terminal) -> Outcome:
    """Start from the settings that the folder remembers."""
    from workflows.commands.console import print_dataset
    from workflows.commands.progress import in_stage
    from workflows.dataset.labeled import named_root
    from workflows.dataset.reexport import export_again
    from workflows.run.folder import RunFolder
    from workflows.run.pass_work import lacking
    from workflows.run.summary import RunSummary

    run, account = RunFolder(options.output), RunSummary("export")

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    replacing = ("export",) if options.dataset.defaults else ()
    run.settings.read(replacing)  # a folder that holds no run is not to be locked, and so made
    with run.locked():
        saved = run.settings.read(replacing)
        if saved.tags_only:
            raise UsageError(f"{run.output} holds tags alone, of `labeler tag`; label the images first")
        settled = _settled(options, run, saved)
        if waiting := run.current().unlabeled():
            console.print(f"{waiting} images are not labeled yet; re-run the label command to resume", highlight=False)
        now = replace(saved, ontology=settled.ontology)
        for line in (*changes_of_classes(saved.ontology, settled.ontology), *lacking(now, run.current().lacking())):
            say(line)
        if hint := dropped_formats(settled):
            console.print(hint, highlight=False)
        root, root_is_named = named_root(saved.input, options.images, options.output)
        with in_stage(console, "writing the dataset"):
            summary = export_again(
                run, root, settled, saved, account, say, options.overwrite_edits, options.resplit, root_is_named
            )
    print_dataset(console, summary, run.output)
    exit_code = of_result(len(summary.new_failures), len(summary.failures), sum(summary.images.values()))
    return Outcome(exit_code, account.line())


def _settled(options: ExportOptions, run: RunFolder, saved: RunSettings) -> Settled:
    """The settings that the flags make of the remembered ones.

    Raises:
        UsageError: they do not suit the classes or the floor.
    """
    ontology = saved.ontology
    given = read_ontology(options.ontology) if options.ontology is not None else None
    if given is not None:
        asked = [prompt_keys(each.ontology) for each in saved.passes] + [prompt_keys(ontology)]
        new = ontology is None or not prompt_keys(given) <= frozenset().union(*asked)
        if new or (ontology and given.distractors != ontology.distractors):
            raise UsageError(
                f"{options.ontology} asks for other prompts than {run.output} was labeled with; label again"
            )
        published = run.classes()
        ontology = with_ids(given, published.ontology if published else ontology)
    elif options.dataset.defaults:
        ontology = with_min_scores(ontology, {})
    family, reset = family_named(saved.family), options.dataset.defaults
    settled = settle(run.settings, saved, options.dataset.given.of, ontology, saved.floor, family, reset=reset)
    return replace(settled, published=last_published(run.settings, saved, run.has_dataset))


COMMAND = Command(
    ExportOptions,
    run_export,
    examples=(
        "labeler export dataset --accept-score 0.5 --min-area 400",
        "labeler export dataset --config tuned.toml",
        "labeler export dataset --formats coco,cutouts --background transparent",
    ),
    first=("output", "accept_score", "min_score", "val_share", "formats", "include_review", "defaults", "config"),
    notes=NOTES,
)
