"""The ``labeler`` command, also as ``python -m labeler``. The one module here that imports from ``workflows``."""

from __future__ import annotations

import sys

from workflows.commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
