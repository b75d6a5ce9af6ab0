"""Link images into a dataset without copying their bytes, and without risk to the user's photos when training."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.files.storage import as_local, copy
from labeler.formats.rewritten import is_rewritten_by_trainers as is_rewritten_by_trainers

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FICLONE = 0x40049409  # linux/fs.h; Btrfs, XFS, bcachefs, …


def link_file(source: AnyPath, target: Path, link: str) -> None:
    """Create ``target``, which must not exist, as a link to or a copy of ``source``.

    Files in a store, and files that trainers rewrite, are always copied.

    Args:
        link: ``hard``, ``symlink`` or ``copy``. ``hard`` makes a copy-on-write clone if the file system can, else a
            hard link, else a copy.
    """
    file = as_local(source)
    if file is None or link == "copy" or is_rewritten_by_trainers(file):
        copy(source, target)
    elif link == "symlink":
        target.symlink_to(file.resolve())
    elif not _clone(file, target):
        try:
            os.link(file.resolve(), target)
        except OSError:  # another file system, or one without hard links
            copy(file, target)


def copy_file(source: Path, target: Path) -> None:
    """Create ``target``, which must not exist, as a copy-on-write clone or a copy of ``source``."""
    if not _clone(source, target):
        copy(source, target)


def _clone(source: Path, target: Path) -> bool:
    """Create ``target`` as a copy-on-write clone of ``source``; returns whether that worked."""
    if fcntl is None or not hasattr(fcntl, "ioctl"):
        return False
    try:
        with open(source, "rb") as original, open(target, "xb") as clone:
            fcntl.ioctl(clone.fileno(), FICLONE, original.fileno())
    except OSError:
        with suppress(OSError):
            target.unlink(missing_ok=True)
        return False
    shutil.copystat(source, target)
    return True
