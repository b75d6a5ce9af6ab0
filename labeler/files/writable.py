"""Whether a folder can be written to, before hours of work depend on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.storage import as_local

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


def check_writable(folder: AnyPath, flag: str = "-o") -> None:
    """Check that ``folder`` is there and can be written to, or can be made. Nothing is written; stores are not asked.

    Args:
        flag: names the folder; for messages.

    Raises:
        UsageError: it cannot.
    """
    local = as_local(folder)
    if local is None:
        return
    path = Path(os.path.abspath(local))
    nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not nearest.is_dir():
        raise UsageError(f"{flag} {folder}: {nearest} is not a folder; choose another {flag}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"{flag} {folder}: {nearest} cannot be written to; choose another {flag}")
