"""The ``labeler`` command.

Exit codes: 0 done; 1 finished, but some images could not be labeled that no run had reported before; 2 wrong usage or
configuration; 3 nothing was labeled; 4 more images failed than ``--max-failures`` allows; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from labeler.errors import LabelerError
from ontologies import OntologyError, OntologyWarning
from workflows.run.exit_codes import INTERRUPTED, OK, TOO_MANY_FAILURES, USAGE, of_error, of_result


class _Console(Console):
    """A console that a run outlives: nobody has to read what it prints."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = _Console(soft_wrap=True)  # paths stay whole when output goes to a file
    warnings.showwarning = _say_warning
    logging.basicConfig(level=logging.WARNING, format="labeler: %(message)s")
    signal.signal(signal.SIGTERM, _stop)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps what it has freed
    try:
        return _run(arguments, console)
    except (LabelerError, OntologyError) as error:
        print(f"labeler: {error}", file=sys.stderr)
        return of_error(error)
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
        print(f"labeler: {where}{cause}; fix that, then {_way_on(arguments)}", file=sys.stderr)
        return USAGE


def _way_on(arguments: Sequence[str]) -> str:
    without = " without --restart" if "--restart" in arguments else ""
    return f"re-run the same command{without} to resume"


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _say_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    if issubclass(category, OntologyWarning):
        print(f"labeler: {message}", file=sys.stderr)


def _run(arguments: list[str], console: Console) -> int:
    parser, commands = _parser()
    if arguments and arguments[0] in commands:
        from workflows.commands.flags import with_config_file

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
    from labeler.files.storage import local_path, locate
    from workflows.commands.evaluate import add_evaluate_flags
    from workflows.commands.export import add_export_command_flags
    from workflows.commands.flags import (
        add_engine_flags,
        add_export_flags,
        add_model_flags,
        add_ontology_flags,
        add_run_flags,
        add_tagging_flags,
    )
    from workflows.commands.preview import add_preview_flags
    from workflows.commands.report import add_report_flags
    from workflows.commands.review import add_review_flags
    from workflows.commands.submit import add_submit_flags
    from workflows.commands.tag import add_tag_flags
    from workflows.commands.tune import add_tune_flags

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

    text = "Tag images, and propose an ontology from their tags: edit it, and give it to label."
    add_tag_flags(command("tag", text))

    label = command("label", "Label images and write the dataset. Run again to go on, or to label what is new.")
    label.add_argument("images", metavar="IMAGES", help="folder, file, glob, or a .txt list of paths; or a URI")
    label.add_argument("-o", "--output", type=locate, required=True, help="dataset and run folder, or a URI")
    add_run_flags(label)
    add_ontology_flags(label)
    add_model_flags(label)
    add_tagging_flags(label, gate=True)
    add_engine_flags(label)
    add_export_flags(label)

    text = "Write the dataset anew from the records: other thresholds, split or format; no model runs."
    add_export_command_flags(command("export", text))
    add_evaluate_flags(command("evaluate", "Measure the labels against a truth; no model runs."))
    add_tune_flags(command("tune", "Find the thresholds that suit a few images whose truth is known; no model runs."))
    text = "Write one HTML page on a labeled folder: counts, scores, pictures; no model runs."
    add_report_flags(command("report", text))
    add_review_flags(command("review", "Look at what is uncertain and decide by hand; every later export heeds it."))

    text = "Run the same labeling on a Ray cluster: takes the flags of label and its own."
    commands["submit"] = subparsers.add_parser(
        "submit", help=text, description=text, parents=[label], add_help=False, argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )  # fmt: skip
    add_submit_flags(commands["submit"])

    command("models", "List the presets, and which of their models are on this machine.")
    return parser, commands


def _label(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.console import ConsoleProgress, print_label_summary
    from workflows.commands.flags import job_from
    from workflows.label import label

    job = job_from(options)
    progress = ConsoleProgress(console)
    try:
        summary = label(job, progress)
    finally:
        progress.close()
    print_label_summary(console, summary, job.output)
    if summary.run.exit_code == TOO_MANY_FAILURES:
        failed = len(summary.dataset.new_failures)
        print(
            f"labeler: {failed} images failed, more than --max-failures {job.max_failures} allows, some of them when "
            "the dataset was written; it holds the others",
            file=sys.stderr,
        )
    return summary.run.exit_code


def _export(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.export import run_export

    summary = run_export(options, console)
    return of_result(len(summary.new_failures), len(summary.failures), sum(summary.images.values()))


def _demo(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.demo import run_demo

    return run_demo(
        options.get("output", Path("labeler-demo")), options.get("scenes", 60), options.get("auto", False), console
    )


def _tag(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.tag import run_tag

    summary = run_tag(options, console)
    return summary.run.exit_code


def _review(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.review import run_review

    return run_review(options, console)


def _submit(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.submit import run_submit

    return run_submit(options)


def _preview(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.preview import run_preview

    summary = run_preview(options, console)
    failed = len(summary.failures)
    return of_result(failed, failed, summary.images - failed)


def _report(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.report import run_report

    return run_report(options, console)


def _evaluate(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.evaluate import run_evaluate

    return run_evaluate(options, console)


def _tune(options: dict[str, Any], console: Console) -> int:
    from workflows.commands.tune import run_tune

    return run_tune(options, console)


def _models(options: dict[str, Any], console: Console) -> int:
    from labeler.models.config import PRESETS
    from labeler.models.identity import is_on_this_machine

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
