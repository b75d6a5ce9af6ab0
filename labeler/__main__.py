"""The ``labeler`` command, also as ``python -m labeler``. The one module here that imports from ``workflows``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from labeler.errors import UsageError
from labeler.own_packages import check_own_packages

WRONG_USAGE = 2  # `workflows.run.exit_codes.USAGE`, which cannot be imported yet


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, by default the one that ``sys.argv`` names; the exit code is returned."""
    try:
        check_own_packages()
    except UsageError as error:
        print(f"labeler: {error}", file=sys.stderr)
        return WRONG_USAGE
    from workflows.commands.cli import main as run_command

    return run_command(arguments)


if __name__ == "__main__":
    sys.exit(main())
