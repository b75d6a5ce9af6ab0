"""``labeler export``: the dataset of a labeled folder written anew."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console

from labeler.errors import UsageError
from labeler.storage import locate
from workflows.config import (
    add_export_flags,
    add_images_flag,
    check_class_names,
    export_from,
    ontology_from,
    saved_export,
)
from workflows.console import print_dataset
from workflows.export import ExportSummary
from workflows.label import check_floor, saved_ontology
from workflows.labeled import named_root
from workflows.reexport import export_again
from workflows.run_folder import RunFolder
from workflows.summary import RunSummary


def add_export_command_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", type=locate, help="a labeled folder, or its URI")
    parser.add_argument("--ontology", metavar="FILE", help="the same classes and prompts with other min_score values")
    add_images_flag(parser)
    add_export_flags(parser)


def run_export(options: dict[str, Any], console: Console) -> ExportSummary:
    """The ``export`` command: what the flags leave out is as it was last time."""
    run, account = RunFolder(options["output"]), RunSummary("export")

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    run.read_settings()  # a folder that holds no run is not to be locked, and so made
    with run.locked():
        saved = run.read_settings()
        if saved["labeling"].get("tags_only"):
            raise UsageError(f"{run.output} holds tags alone, of `labeler tag`; label the images first")
        ontology = saved_ontology(saved["ontology"])
        given = ontology_from(options)
        if given is not None and (ontology is None or given.prompt_digest != ontology.prompt_digest):
            raise UsageError(
                f"{options['ontology']} asks for other prompts than {run.output} was labeled with; label again"
            )
        ontology = given or ontology
        config = export_from(options, saved_export(saved["export"]))
        check_floor(saved["model"]["floor"], config.quality, ontology)
        check_class_names(options, ontology)
        waiting = sum(len(shard.image_ids) for shard in run.waiting())
        if waiting:
            console.print(f"{waiting} images are not labeled yet; the label command goes on", highlight=False)
        before = saved["export"]["formats"]
        if gone := [name for name in before if name not in config.formats]:
            kept = ",".join(dict.fromkeys([*before, *config.formats]))
            what = f"{' and '.join(gone)} will not be in the dataset"
            console.print(f"{what}; --format {kept} keeps them", highlight=False)
        root, root_is_named = named_root(saved["input"], options.get("images"))
        summary = export_again(
            run,
            root,
            ontology,
            config,
            saved,
            account,
            say,
            previous=saved_export(saved["export"]),
            overwrite_edits=options.get("overwrite_edits", False),
            root_is_named=root_is_named,
        )
        run.write_settings({**saved, "ontology": ontology and asdict(ontology), "export": asdict(config)})
    print_dataset(console, summary, run.output)
    say(account.line())
    return summary
