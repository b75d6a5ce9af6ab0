"""``labeler export``: the dataset of a labeled folder written anew, with the settings that the folder remembers."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from labeler.errors import UsageError
from labeler.files.storage import locate
from workflows.commands.console import print_dataset
from workflows.commands.flags import add_export_flags, add_images_flag, export_from, ontology_from
from workflows.dataset.export import ExportSummary
from workflows.dataset.labeled import named_root
from workflows.dataset.reexport import export_again
from workflows.run.folder import RunFolder
from workflows.run.summary import RunSummary
from workflows.settings.dataset import last_published, saved_floor, saved_ontology, with_min_scores
from workflows.settings.resolved import Settled, settle
from workflows.settings.text import dropped_formats


def add_export_command_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", type=locate, help="a labeled folder, or its URI")
    parser.add_argument("--ontology", metavar="FILE", help="the same classes and prompts with other min_score values")
    add_images_flag(parser)
    add_export_flags(parser)


def run_export(options: dict[str, Any], console: Console) -> ExportSummary:
    """The ``export`` command: it starts from the settings that the folder remembers."""
    run, account = RunFolder(options["output"]), RunSummary("export")

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    run.settings.read()  # a folder that holds no run is not to be locked, and so made
    with run.locked():
        saved = run.settings.read()
        if saved["labeling"].get("tags_only"):
            raise UsageError(f"{run.output} holds tags alone, of `labeler tag`; label the images first")
        settled = _settled(options, run, saved)
        waiting = sum(len(shard.image_ids) for shard in run.waiting())
        if waiting:
            console.print(f"{waiting} images are not labeled yet; the label command goes on", highlight=False)
        if hint := dropped_formats(settled):
            console.print(hint, highlight=False)
        root, root_is_named = named_root(saved["input"], options.get("images"))
        overwrite_edits = options.get("overwrite_edits", False)
        summary = export_again(run, root, settled, saved, account, say, overwrite_edits, root_is_named)
    print_dataset(console, summary, run.output)
    say(account.line())
    return summary


def _settled(options: dict[str, Any], run: RunFolder, saved: dict[str, Any]) -> Settled:
    """The settings that the flags make of the remembered ones.

    Raises:
        UsageError: they do not suit the classes or the floor, or the remembered ones are damaged.
    """
    reset = options.get("defaults", False)
    ontology = saved_ontology(saved.get("ontology"), run.path / "run.json")
    given = ontology_from(options)
    if given is not None and (ontology is None or given.prompt_digest != ontology.prompt_digest):
        raise UsageError(
            f"{options['ontology']} asks for other prompts than {run.output} was labeled with; label again"
        )
    if given is not None or reset:
        ontology = given or with_min_scores(ontology, {})
    change = export_from(options) if reset else partial(export_from, options)
    settled = settle(run.settings, saved, change, ontology, saved_floor(run.settings, saved))
    return replace(settled, published=last_published(run.settings, saved, run.has_dataset))
