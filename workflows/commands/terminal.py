"""The console that commands print to."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console

from labeler.files.credentials import without_secrets


class Terminal(Console):
    """A console that a run outlives: nobody has to read what it prints. Passwords of URIs are left out.

    Args:
        quiet: print nothing but the last line.
    """

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(soft_wrap=True, quiet=quiet)  # paths stay whole when output goes to a file

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(without_secrets(each) if isinstance(each, str) else each for each in objects), **options)

    def always(self, line: str) -> None:
        """Print a line also when quiet."""
        quiet, self.quiet = self.quiet, False
        self.print(line, highlight=False, markup=False)
        self.quiet = quiet

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
