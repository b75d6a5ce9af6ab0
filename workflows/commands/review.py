"""``labeler review``."""

from __future__ import annotations

import argparse
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.console import Console

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.files.storage import locate
from workflows.commands.exchange import add_exchange_flags, print_decisions, send
from workflows.commands.flags import add_edit_flags, add_images_flag
from workflows.dataset.decision_log import decisions_path, read_decision_file
from workflows.dataset.labeled import open_labeled
from workflows.review.apply import apply_decisions
from workflows.review.exchange import corrections
from workflows.review.queue import ReviewQueue
from workflows.review.server import ReviewServer
from workflows.run.exit_codes import OK
from workflows.run.summary import RunSummary

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

VERDICTS = {"review": ("review",), "accept": ("accept",), "reject": ("reject",), "all": ("review", "accept", "reject")}
# Flags that go with each way which opens no page, and with the page.
_FITTING = {
    "apply": ("images", "overwrite_edits"),
    "from": ("images", "overwrite_edits"),
    "to": ("images", "verdict", "folder", "limit", "image_url"),
}


_PAGE = ("images", "verdict", "classes", "port", "no_open")


def add_review_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", type=locate, help="a labeled folder, or its URI")
    parser.add_argument("--verdict", choices=VERDICTS, help="instances to look at, by the thresholds (default: review)")
    parser.add_argument(
        "--class", dest="classes", type=_names, metavar="LIST", help='of these classes alone: "dog, cat"'
    )
    parser.add_argument("--port", type=int, metavar="N", help="of the page (default: a free one)")
    parser.add_argument("--no-open", action="store_true", help="open no browser")
    parser.add_argument(
        "--apply",
        metavar="FILE",
        help="a report's decisions, or lines of a decisions.jsonl: keep them, write the dataset",
    )
    add_images_flag(parser)
    add_edit_flags(parser)
    add_exchange_flags(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run_review(options: dict[str, Any], console: Console) -> int:
    """The ``review`` command; its exit code is returned."""
    output = options["output"]
    mode = next((name for name in _FITTING if name in options), None)
    fitting = {"output", *(_PAGE if mode is None else (mode, *_FITTING[mode]))}
    if given := sorted(options.keys() - fitting):
        name = {"classes": "class"}.get(given[0], given[0].replace("_", "-"))
        raise UsageError(f"--{mode} opens no page: leave out --{name}" if mode else f"--{name} goes with --to")
    if mode == "to":
        send(open_labeled(output, options.get("images")), options, console)
        return OK
    if mode == "from":
        decisions = corrections(open_labeled(output), options["from"])
        print_decisions(console, decisions)
        return _apply(output, options["from"], decisions, options, console)
    if mode == "apply":
        path = locate(options["apply"])
        return _apply(output, path, read_decision_file(path), options, console)
    labeled = open_labeled(output, options.get("images"))
    console.print("reading the records", highlight=False)
    queue = ReviewQueue(labeled, VERDICTS[options.get("verdict", "review")], options.get("classes", ()))
    progress = queue.progress()
    if not len(queue):
        console.print("nothing to look at; --verdict all shows every instance", highlight=False)
        return OK
    left = progress["total"] - progress["accepted"] - progress["rejected"]
    with ReviewServer(queue, options.get("port", 0)) as server:
        console.print(f"{progress['total']} instances, {left} undecided", highlight=False)
        console.print(f"review: {server.url}", highlight=False, markup=False)
        console.print("Ctrl-C ends it; decisions are saved as they are made", highlight=False)
        if not options.get("no_open"):
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    progress = queue.progress()
    console.print(
        f"{progress['accepted']} accepted, {progress['rejected']} rejected of {progress['total']}; decisions: "
        f"{decisions_path(labeled.run)}",
        highlight=False,
    )
    console.print(f"to write the dataset by them: labeler export {output}", highlight=False, markup=False)
    return OK


def _apply(
    output: AnyPath, path: AnyPath, decisions: Sequence[Decision], options: dict[str, Any], console: Console
) -> int:
    from workflows.commands.console import print_dataset

    account = RunSummary("review")

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    summary = apply_decisions(
        output, decisions, options.get("images"), options.get("overwrite_edits", False), account, say
    )
    console.print(f"{len(decisions)} decisions of {path}", highlight=False, markup=False)
    print_dataset(console, summary, output)
    say(account.line())
    return account.exit_code
