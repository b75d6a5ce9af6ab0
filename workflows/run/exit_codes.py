"""Exit codes of the ``labeler`` command.

0    done
1    done, but some images failed that no run had reported before
2    wrong usage or configuration
3    nothing was labeled
4    more images failed than ``--max-failures`` allows
130  stopped by Ctrl-C, SIGTERM or SIGHUP (the terminal was closed)
"""

from __future__ import annotations

OK, SOME_FAILED, USAGE, NOTHING_LABELED, TOO_MANY_FAILURES, INTERRUPTED = 0, 1, 2, 3, 4, 130


def of_result(new_failures: int, failures: int, images: int, allow_failures: bool = False) -> int:
    """The exit code of a run that was not stopped by an error.

    Args:
        new_failures: images that failed and that no earlier run has reported.
        failures: all failed images.
        images: images that are labeled after the run.
        allow_failures: return 0 even if some images failed.
    """
    if failures and not images:
        return NOTHING_LABELED
    return SOME_FAILED if new_failures and not allow_failures else OK


def of_error(error: BaseException) -> int:
    """The exit code of a run that ended in ``error``; an error class may set its own as ``exit_code``."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return int(getattr(error, "exit_code", USAGE))


received: list[str] = []  # names of the signals that asked this process to stop, apart from Ctrl-C


def stopped() -> str:
    """What stopped the run, in words.

    The interrupt itself cannot tell, since Ray replaces it by one of its own.
    """
    name = received[-1] if received else ""
    return f"stopped{f' by {name}' if name else ''}{' (the terminal was closed)' if name == 'SIGHUP' else ''}"
