"""The ``labeler`` command.

Exit codes: 0 done; 1 finished, but some images could not be labeled; 2 wrong usage or configuration; 3 nothing was
labeled; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from labeler.errors import LabelerError, UsageError
from ontologies import OntologyError, OntologyWarning

OK, SOME_FAILED, USAGE, NOTHING_LABELED, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(soft_wrap=True)  # paths stay whole when output goes to a file
    warnings.showwarning = _say_warning
    logging.basicConfig(level=logging.WARNING, format="labeler: %(message)s")
    signal.signal(signal.SIGTERM, _stop)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps what it has freed
    try:
        return _run(arguments, console)
    except (LabelerError, OntologyError) as error:
        print(f"labeler: {error}", file=sys.stderr)
        from workflows.label import NothingFoundError

        return NOTHING_LABELED if isinstance(error, NothingFoundError) else USAGE
    except KeyboardInterrupt:
        print(f"labeler: stopped; {_way_on(arguments)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        cause = (error.strerror or str(error)).splitlines()[0]
        print(f"labeler: {where}{cause}; mend that, then {_way_on(arguments)}", file=sys.stderr)
        return USAGE


def _way_on(arguments: Sequence[str]) -> str:
    without = " without --restart" if "--restart" in arguments else ""
    return f"the same command{without} goes on where it was"


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _say_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, OntologyWarning):
        print(f"labeler: {message}", file=sys.stderr)


def _run(arguments: list[str], console: Console) -> int:
    parser, commands = _parser()
    if arguments and arguments[0] in commands:
        from workflows.config import with_config_file

        arguments = with_config_file(commands[arguments[0]], arguments)
    try:
        options = vars(parser.parse_args(arguments))
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    command = options.pop("command", None)
    if command is None:
        parser.print_help()
        return USAGE
    return int(_COMMANDS[command](options, console))


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    from labeler.storage import local_path, locate
    from workflows.config import (
        add_class_flags,
        add_engine_flags,
        add_export_flags,
        add_model_flags,
        add_ontology_flags,
        add_run_flags,
        add_tagging_flags,
    )
    from workflows.evaluate_command import add_evaluate_flags
    from workflows.preview import add_preview_flags
    from workflows.report import add_report_flags
    from workflows.review import add_review_flags
    from workflows.submit import add_submit_flags
    from workflows.tune_command import add_tune_flags

    parser = argparse.ArgumentParser(
        prog="labeler", description="Turn a folder of images and a list of words into a segmentation dataset."
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands: dict[str, argparse.ArgumentParser] = {}

    def command(name: str, text: str) -> argparse.ArgumentParser:
        commands[name] = subparsers.add_parser(
            name, help=text, description=text, argument_default=argparse.SUPPRESS, allow_abbrev=False
        )
        commands[name].add_argument("--config", metavar="FILE", help="TOML file of flags; the command line wins")
        return commands[name]

    demo = command("demo", "Draw sample scenes, label them with the embedded weights, and measure the result.")
    demo.add_argument("-o", "--output", type=local_path, help="folder to make (default: labeler-demo)")
    demo.add_argument("--scenes", type=int, metavar="N", help="scenes to draw (default: 60)")
    demo.add_argument("--auto", action="store_true", help="name no class: the scenes propose their own")

    text = "Label a handful of images and write one picture of them: the quick look before the long run."
    add_preview_flags(command("preview", text))

    label = command("label", "Label images and write the dataset. Run again to go on, or to label what is new.")
    label.add_argument("images", metavar="IMAGES", help="folder, file, glob, or a .txt list of paths; or a URI")
    label.add_argument("-o", "--output", type=locate, required=True, help="dataset and run folder, or a URI")
    add_run_flags(label)
    add_ontology_flags(label)
    add_model_flags(label)
    add_tagging_flags(label, gate=True)
    add_engine_flags(label)
    add_export_flags(label)

    text = "Run the same labeling on a Ray cluster: takes the flags of label and its own."
    commands["submit"] = subparsers.add_parser(
        "submit", help=text, description=text, parents=[label], add_help=False, argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )  # fmt: skip
    add_submit_flags(commands["submit"])

    export = command(
        "export", "Write the dataset anew from the records: other thresholds, split or format; no model runs."
    )
    export.add_argument("output", metavar="OUT", type=locate, help="a labeled folder, or its URI")
    export.add_argument("--ontology", metavar="FILE", help="the same classes and prompts with other min_score values")
    add_export_flags(export)

    add_review_flags(command("review", "Look at what is uncertain and decide by hand; every later export heeds it."))

    tag = command("tag", "Tag images, and propose an ontology from their tags: edit it, and give it to label.")
    tag.add_argument("images", metavar="IMAGES", help="as of label")
    tag.add_argument("-o", "--output", type=local_path, required=True, metavar="FILE.toml", help="ontology to write")
    tag.add_argument("--sample", type=int, metavar="N", help="look at N images only, the same ones every time")
    tag.add_argument("--synonyms", metavar="FILE", help='TOML of what means the same: [synonyms] dog = ["puppy"]')
    add_class_flags(tag)
    add_run_flags(tag)
    add_tagging_flags(tag, gate=False)
    add_model_flags(tag)
    add_engine_flags(tag)

    add_report_flags(
        command("report", "Write one HTML page on a labeled folder: counts, scores, pictures; no model runs.")
    )

    add_evaluate_flags(command("evaluate", "Measure the labels against a truth; no model runs."))
    add_tune_flags(command("tune", "Find the thresholds that suit a few images whose truth is known; no model runs."))
    command("models", "List the presets, and which of their models are on this machine.")
    return parser, commands


def _label(options: dict[str, Any], console: Console) -> int:
    from workflows.config import job_from
    from workflows.console import ConsoleProgress, print_label_summary
    from workflows.label import label

    job = job_from(options)
    progress = ConsoleProgress(console)
    try:
        summary = label(job, progress)
    finally:
        progress.close()
    print_label_summary(console, summary, job.output)
    return _exit_code(len(summary.dataset.failures), sum(summary.dataset.images.values()))


def _exit_code(failures: int, images: int) -> int:
    if failures:
        return SOME_FAILED if images else NOTHING_LABELED
    return OK


def _export(options: dict[str, Any], console: Console) -> int:
    from labeler.storage import locate
    from workflows.config import check_class_names, export_from, ontology_from, saved_export
    from workflows.console import print_dataset
    from workflows.export import export
    from workflows.label import check_floor, saved_ontology
    from workflows.run_folder import RunFolder

    run = RunFolder(options["output"])
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
        summary = export(run, locate(saved["input"]), ontology, config)
        run.write_settings({**saved, "ontology": ontology and asdict(ontology), "export": asdict(config)})
    print_dataset(console, summary, run.output)
    return _exit_code(len(summary.failures), sum(summary.images.values()))


def _demo(options: dict[str, Any], console: Console) -> int:
    from workflows.demo import run_demo

    return run_demo(
        options.get("output", Path("labeler-demo")), options.get("scenes", 60), options.get("auto", False), console
    )


def _tag(options: dict[str, Any], console: Console) -> int:
    from ontologies import read_synonyms
    from workflows.config import job_from
    from workflows.console import ConsoleProgress, print_tag_summary
    from workflows.tag import tag

    path = options.pop("output")
    if path.suffix != ".toml":
        raise UsageError(f"-o {path}: the proposal is a TOML file; give it a name that ends in .toml")
    synonyms = read_synonyms(options["synonyms"]) if "synonyms" in options else {}
    job = job_from({"tagger": "auto", **options, "output": path.with_suffix(".tags"), "tags_only": True})
    progress = ConsoleProgress(console, "tagging", "tagged")
    try:
        summary = tag(job, path, synonyms, progress)
    finally:
        progress.close()
    print_tag_summary(console, summary, path)
    return _exit_code(len(summary.failures), summary.images)


def _review(options: dict[str, Any], console: Console) -> int:
    from workflows.review import run_review

    return run_review(options, console)


def _submit(options: dict[str, Any], console: Console) -> int:
    from workflows.submit import run_submit

    return run_submit(options)


def _preview(options: dict[str, Any], console: Console) -> int:
    from workflows.preview import run_preview

    summary = run_preview(options, console)
    return _exit_code(len(summary.failures), summary.images - len(summary.failures))


def _report(options: dict[str, Any], console: Console) -> int:
    from workflows.report import run_report

    return run_report(options, console)


def _evaluate(options: dict[str, Any], console: Console) -> int:
    from workflows.evaluate_command import run_evaluate

    return run_evaluate(options, console)


def _tune(options: dict[str, Any], console: Console) -> int:
    from workflows.tune_command import run_tune

    return run_tune(options, console)


def _models(options: dict[str, Any], console: Console) -> int:
    from labeler.checkpoints import is_on_this_machine
    from labeler.models import PRESETS

    for name, preset in PRESETS.items():
        console.print(f"[bold]{name}[/bold]: {preset.about}", highlight=False)
        for role, source in (("detector", preset.detector), ("segmenter", preset.segmenter)):
            here = "on this machine" if is_on_this_machine(source) else "to be fetched"
            console.print(f"  {role:9}  {source}  ({here})", highlight=False, markup=False)
    console.print("Any other checkpoint of these families: --detector and --segmenter take a hub id or a folder.")
    return OK


_COMMANDS = {
    "demo": _demo,
    "preview": _preview,
    "tag": _tag,
    "label": _label,
    "export": _export,
    "evaluate": _evaluate,
    "tune": _tune,
    "report": _report,
    "review": _review,
    "submit": _submit,
    "models": _models,
}


if __name__ == "__main__":
    sys.exit(main())
