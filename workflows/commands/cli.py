"""The ``labeler`` command: the table of commands, and what happens around each of them.

Exit codes: 0 done; 1 finished, but some images could not be labeled that no run had reported before; 2 wrong usage or
configuration; 3 nothing was labeled; 4 more images failed than ``--max-failures`` allows; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from labeler.errors import LabelerError, UsageError
from labeler.files.credentials import without_secrets
from ontologies import OntologyError, OntologyWarning
from workflows.run.exit_codes import INTERRUPTED, OK, USAGE, of_error

if TYPE_CHECKING:
    from workflows.commands.options import Command, GeneralOptions

COMMANDS = {
    "demo": "Draw sample scenes, label them with the embedded weights, and measure the result.",
    "preview": "Label a few images and draw the result on one picture, before the long run.",
    "tag": "Tag images and propose an ontology from the tags, to be edited and given to label.",
    "label": "Label images and write the dataset; re-run the same command to resume, or to label new images.",
    "export": "Write the dataset again from the records, with other thresholds, splits or formats; no model runs.",
    "evaluate": "Measure the labels against ground truth; no model runs.",
    "tune": "Find thresholds from a few images with ground truth; no model runs.",
    "report": "Write one HTML page about a labeled folder, with counts, scores and pictures; no model runs.",
    "review": "Decide by hand on uncertain instances; every later export applies the decisions.",
    "submit": "Run label on a Ray cluster or on Kubernetes.",
    "models": "List the presets, and which of their models are on this machine.",
}
"""What each command does. Its options and its code are in the module of its name."""

logger = logging.getLogger(__name__)
_GENERAL = ("-q", "--quiet", "-v", "--verbose")
_PACKAGES = ("labeler", "ontologies", "workflows")


def load(name: str) -> Command[Any]:
    """The command ``name``; nothing heavy is imported before it runs."""
    command: Command[Any] = importlib.import_module(f"workflows.commands.{name}").COMMAND
    return command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is returned."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _stop)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps what it has freed
    try:
        return _run(arguments)
    except (LabelerError, OntologyError) as error:
        print(without_secrets(f"labeler: {error}"), file=sys.stderr)
        return of_error(error)
    except KeyboardInterrupt:
        print(f"labeler: stopped; {_way_on(arguments)}", file=sys.stderr)
        return INTERRUPTED
    except MemoryError:
        print(f"labeler: not enough memory; free some, then {_way_on(arguments)}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        cause = (error.strerror or str(error)).splitlines()[0]
        print(without_secrets(f"labeler: {where}{cause}") + f"; fix that, then {_way_on(arguments)}", file=sys.stderr)
        return USAGE


def _way_on(arguments: Sequence[str]) -> str:
    without = " without --restart" if "--restart" in arguments else ""
    return f"re-run the same command{without} to resume"


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(arguments: list[str]) -> int:
    general = list(itertools.takewhile(_GENERAL.__contains__, arguments))
    name, *rest = [*arguments[len(general) :], *general] or [""]
    if name == "--version":
        from importlib.metadata import version

        print(f"labeler {version('autodistill-labeler')}")
        return OK
    asked_for_help = name in ("help", "-h", "--help")
    if asked_for_help and rest:
        name = rest[0]
    if name in ("", "help", "-h", "--help"):
        from workflows.commands.help import help_of_all

        print(help_of_all(COMMANDS), end="")
        return OK if name else USAGE
    if name not in COMMANDS:
        raise UsageError(_unknown(name))
    from workflows.commands.parsing import parse, wants_help

    command = load(name)
    if asked_for_help or wants_help(rest):
        from workflows.commands.help import help_of

        print(help_of(name, COMMANDS[name], command), end="")
        return OK
    parsed = parse(name, command, rest)
    _set_up_messages(parsed.general)
    logger.debug("options: %s", parsed.options)
    from workflows.commands.terminal import Terminal

    console = Terminal(quiet=parsed.general.quiet)
    outcome = command.run(parsed.options, console)
    if outcome.line:
        console.always(outcome.line)
    return outcome.exit_code


def _unknown(name: str) -> str:
    from workflows.commands.values import did_you_mean

    what = "flag" if name.startswith("-") else "command"
    return f"unknown {what} {name}; {did_you_mean(name, COMMANDS, 'see `labeler --help`')}"


def _set_up_messages(general: GeneralOptions) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("labeler: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    level = logging.DEBUG if general.verbose else logging.ERROR if general.quiet else logging.NOTSET
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level)

    def say_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, OntologyWarning) and not general.quiet:
            print(without_secrets(f"labeler: {message}"), file=sys.stderr)

    warnings.showwarning = say_warning


class _Formatter(logging.Formatter):
    """Leaves out the passwords of URIs."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


if __name__ == "__main__":
    sys.exit(main())
