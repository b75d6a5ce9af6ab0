"""The ``labeler`` command: the table of commands, and what happens around each of them.

Exit codes: 0 done; 1 finished, but some images could not be labeled that no run had reported before; 2 wrong usage or
configuration; 3 nothing was labeled; 4 more images failed than ``--max-failures`` allows; 130 stopped by Ctrl-C,
SIGTERM or SIGHUP.
"""

from __future__ import annotations

import importlib
import io
import itertools
import logging
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from labeler.errors import LabelerError, UsageError
from ontologies import OntologyError, OntologyWarning
from workflows.commands.messages import OneLine, complain
from workflows.run.exit_codes import INTERRUPTED, OK, USAGE, of_error, received, stopped

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
    "train": "Train a small model on a labeled folder with an established trainer, and measure it.",
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
    _set_up_streams()
    _set_up_signals()
    received.clear()
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # Arrow's own keeps what it has freed
    try:
        return _run(arguments)
    except (LabelerError, OntologyError) as error:
        complain(error)
        return of_error(error)
    except KeyboardInterrupt:
        complain(f"{stopped()}; {_way_on(arguments)}")
        return INTERRUPTED
    except MemoryError:
        complain(f"not enough memory; free some, then {_way_on(arguments)}")
        return USAGE
    except BrokenPipeError:
        sys.stderr.close()
        return OK
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        cause = (error.strerror or str(error)).splitlines()[0]
        complain(f"{where}{cause}; fix that, then {_way_on(arguments)}")
        return USAGE


def _way_on(arguments: Sequence[str]) -> str:
    without = " without --restart" if "--restart" in arguments else ""
    return f"re-run the same command{without} to resume"


def _set_up_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding lacks is escaped


def _set_up_signals() -> None:
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    signal.signal(signal.SIGTERM, partial(_stop, terminals))
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # nohup ignores it
        signal.signal(hangup, partial(_stop, terminals))


def _stop(terminals: Sequence[int], number: int, _: object) -> NoReturn:
    """End the command as Ctrl-C does.

    Args:
        terminals: of the standard output and error, those that were terminals.
    """
    name = signal.Signals(number).name
    if name == "SIGHUP":
        signal.signal(number, signal.SIG_IGN)  # it often comes twice, from the shell and from the system
        for stream in terminals:
            if not os.isatty(stream):  # the terminal is gone, and writing to it would fail
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    received.append(name)
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
    handler.setFormatter(OneLine("labeler: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    level = logging.DEBUG if general.verbose else logging.ERROR if general.quiet else logging.NOTSET
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level)

    def say_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if issubclass(category, OntologyWarning) and not general.quiet:
            complain(message)

    warnings.showwarning = say_warning


if __name__ == "__main__":
    sys.exit(main())
