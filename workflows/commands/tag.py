"""``labeler tag``: an ontology proposed from images."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from rich.console import Console

from labeler.errors import UsageError
from labeler.files.storage import local_path
from ontologies import read_synonyms
from workflows.commands.console import ConsoleProgress, print_tag_summary
from workflows.commands.flags import (
    add_class_flags,
    add_engine_flags,
    add_model_flags,
    add_run_flags,
    add_tagging_flags,
    export_from,
    job_from,
)
from workflows.tag import TagSummary, tag


def add_tag_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="IMAGES", help="as of label")
    parser.add_argument("-o", "--output", type=local_path, required=True, metavar="FILE.toml", help="ontology to write")
    parser.add_argument("--sample", type=int, metavar="N", help="look at N images only, the same ones every time")
    parser.add_argument("--synonyms", metavar="FILE", help='TOML of what means the same: [synonyms] dog = ["puppy"]')
    add_class_flags(parser)
    add_run_flags(parser)
    add_tagging_flags(parser, gate=False)
    add_model_flags(parser)
    add_engine_flags(parser)


def run_tag(options: dict[str, Any], console: Console) -> TagSummary:
    """The ``tag`` command; records are kept beside the proposal."""
    path = options.pop("output")
    if path.suffix != ".toml":
        raise UsageError(f"-o {path}: the proposal is a TOML file; give it a name that ends in .toml")
    synonyms = read_synonyms(options["synonyms"]) if "synonyms" in options else {}
    job = job_from({"tagger": "auto", **options, "output": path.with_suffix(".tags"), "tags_only": True})
    job = replace(job, export=export_from(options))  # each proposal by its own flags: this is no dataset
    progress = ConsoleProgress(console, "tagging", "tagged")
    try:
        summary = tag(job, path, synonyms, progress)
    finally:
        progress.close()
    print_tag_summary(console, summary, path)
    console.print(summary.run.line(), highlight=False, markup=False)
    return summary
