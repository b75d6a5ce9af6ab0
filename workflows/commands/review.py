"""``labeler review``: decisions by hand, on a page or in annotation tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.files.storage import locate
from labeler.setting import setting
from workflows.commands.assist import AssistOptions, assistant_of
from workflows.commands.exchange import ExchangeOptions, is_own, print_decisions, say_faults, send
from workflows.commands.export import IMAGES, OUT
from workflows.commands.options import Command, GeneralOptions, Outcome, everything_given, flags_of, nested
from workflows.run.exit_codes import OK, SOME_FAILED
from workflows.settings.job import OVERWRITE_EDITS
from workflows.settings.review_sets import SELECTIONS

if TYPE_CHECKING:
    from labeler.decisions import Decision
    from labeler.files.storage import AnyPath
    from workflows.commands.terminal import Terminal

# Options that go with each way which opens no page, and with the page.
_FITTING = {
    "apply": ("images", "overwrite_edits"),
    "returned": ("images", "overwrite_edits"),
    "to": ("images", "verdict", "folder", "limit", "image_url"),
}
_PAGE = ("images", "verdict", "classes", "port", "no_open", *(flag.name for flag in flags_of(AssistOptions)))


@dataclass(frozen=True, kw_only=True)
class ReviewOptions:
    output: AnyPath = setting(help=OUT, metavar="OUT", positional=True, parse=locate)
    verdict: str = setting(
        "review",
        "instances to show or send, by verdict; all: accepted, under review and rejected; not-rejected: the first two",
        choices=tuple(SELECTIONS),
    )
    classes: tuple[str, ...] = setting(
        (), 'show only these classes: "dog, cat"', metavar="LIST", names=("--class",), unset="all"
    )
    port: int = setting(0, "port of the page", metavar="N", unset="a free one")
    no_open: bool = setting(False, "do not open a browser")
    drawing: AssistOptions = nested(AssistOptions)
    apply: AnyPath | None = setting(
        None,
        "read decisions from a report's decisions.json or a decisions.jsonl, and write the dataset",
        metavar="FILE",
        parse=locate,
        unset="none",
    )
    images: str | None = setting(None, IMAGES, metavar="URI", unset="images are read from the dataset")
    overwrite_edits: bool = setting(False, f"with --apply or --from: {OVERWRITE_EDITS}")
    exchange: ExchangeOptions = nested(ExchangeOptions)
    given: Mapping[str, Any] = everything_given()


def run_review(options: ReviewOptions, console: Terminal) -> Outcome:
    from workflows.dataset.labeled import open_labeled

    mode = _mode(options)
    if mode == "to":
        labeled = open_labeled(options.output, options.images)
        return Outcome(line=send(labeled, options.exchange, options.verdict, console))
    if mode == "returned" and options.exchange.returned is not None:
        if is_own(options.exchange.returned, options.output):
            return _take_in(options, console)
        from workflows.review.corrections import corrections

        decisions = corrections(open_labeled(options.output), options.exchange.returned)
        print_decisions(console, decisions)
        return _apply(options, options.exchange.returned, decisions, console)
    if mode == "apply" and options.apply is not None:
        from workflows.dataset.decision_log import read_decision_file

        return _apply(options, options.apply, read_decision_file(options.apply), console)
    return _page(options, console)


def _mode(options: ReviewOptions) -> str | None:
    """Which way without a page the flags ask for; None for the page.

    Raises:
        UsageError: a flag does not go with that.
    """
    mode = next((name for name in _FITTING if name in options.given), None)
    general = [flag.name for flag in flags_of(GeneralOptions)]
    fitting = {"output", *general, *(_PAGE if mode is None else (mode, *_FITTING[mode]))}
    flags = {flag.name: flag.title for flag in flags_of(ReviewOptions)}
    if given := sorted(flags[name] for name in options.given.keys() - fitting):
        if mode is None:
            raise UsageError(f"{given[0]} goes with {'--apply or --from' if 'edits' in given[0] else '--to'}")
        raise UsageError(f"{flags[mode]} opens no page: leave out {given[0]}")
    return mode


def _page(options: ReviewOptions, console: Terminal) -> Outcome:
    """Serve the page until Ctrl-C."""
    from contextlib import nullcontext, suppress

    from workflows.dataset.decision_log import decisions_path
    from workflows.dataset.labeled import open_labeled
    from workflows.review.browser import shown_in_browser
    from workflows.review.queue import ReviewQueue
    from workflows.review.server import ReviewServer

    options.drawing.check(options.given)
    labeled = open_labeled(options.output, options.images)
    console.print("reading the records", highlight=False)
    queue = ReviewQueue(labeled, SELECTIONS[options.verdict], options.classes)
    progress = queue.progress()
    if not len(queue) and not (options.drawing.assist and queue.image_count):
        return Outcome(line="nothing to show; --verdict all shows every instance")
    assistant = assistant_of(options.drawing, queue, console)
    left = progress["total"] - progress["accepted"] - progress["rejected"]
    with ReviewServer(queue, options.port, assistant) as server:
        console.print(f"{progress['total']} instances, {left} undecided", highlight=False)
        console.always(f"review: {server.url}")
        console.print("Ctrl-C ends it; decisions are saved as they are made", highlight=False)
        browser = nullcontext() if options.no_open else shown_in_browser(server.url)
        with suppress(KeyboardInterrupt), browser:
            server.serve_forever()
    progress = queue.progress()
    console.print(
        f"{progress['accepted']} accepted, {progress['rejected']} rejected of {progress['total']}; decisions: "
        f"{decisions_path(labeled.run)}",
        highlight=False,
    )
    return Outcome(line=f"to write the dataset by them: labeler export {options.output}")


def _take_in(options: ReviewOptions, console: Terminal) -> Outcome:
    """Take in what was edited in the dataset itself."""
    from workflows.dataset.labeled import open_labeled
    from workflows.review.dataset_edits import dataset_edits
    from workflows.review.edited_files import set_aside

    labeled = open_labeled(options.output)
    edits = dataset_edits(labeled)
    if not edits.files:
        return Outcome(line="no label or annotation file of the dataset was edited")
    say_faults(edits.faults)
    if not edits.taken and not edits.decisions:
        return Outcome(SOME_FAILED, "nothing was taken in; the edited files stay as they are")
    print_decisions(console, edits.decisions, "accepted as they were")
    set_aside(labeled, edits.taken)
    outcome = _apply(options, options.output, edits.decisions, console, edits.taken_in)
    return replace(outcome, exit_code=outcome.exit_code or (SOME_FAILED if edits.faults else OK))


def _apply(
    options: ReviewOptions,
    path: AnyPath,
    decisions: Sequence[Decision],
    console: Terminal,
    taken_in: Mapping[str, str] | None = None,
) -> Outcome:
    from workflows.commands.console import print_dataset
    from workflows.commands.progress import in_stage
    from workflows.review.apply import apply_decisions
    from workflows.run.summary import RunSummary

    account = RunSummary("review")

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    with in_stage(console, "writing the dataset"):
        summary = apply_decisions(
            options.output, decisions, options.images, options.overwrite_edits, account, say, taken_in
        )
    console.print(f"{len(decisions)} decisions of {path}", highlight=False, markup=False)
    print_dataset(console, summary, options.output)
    if taken_in:
        from workflows.dataset.journal import SET_ASIDE

        text = f"edited files taken in and written anew: {len(taken_in)}; your versions: {options.output / SET_ASIDE}"
        console.print(text, highlight=False, markup=False)
    return Outcome(account.exit_code, account.line())


COMMAND = Command(
    ReviewOptions,
    run_review,
    examples=(
        "labeler review dataset --assist --device cuda",
        "labeler review dataset --to cvat -o review-set --limit 200",
        "labeler review dataset --from task_1_annotations.zip",
    ),
    first=("output", "verdict", "classes", "assist", "apply", "to", "folder", "returned", "config"),
)
