"""The console that commands print to."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from workflows.commands.messages import printable


class Terminal(Console):
    """A console that a run outlives, since nobody has to read what it prints. Each string is one line, without escapes.

    Args:
        quiet: print nothing but the last line.
    """

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(soft_wrap=True, quiet=quiet)  # paths stay whole when output goes to a file

    def render_str(self, text: str, **style: Any) -> Text:
        return super().render_str(printable(text), **style)

    def always(self, line: str) -> None:
        """Print a line also when quiet."""
        quiet, self.quiet = self.quiet, False
        self.print(line, highlight=False, markup=False)
        self.quiet = quiet

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
