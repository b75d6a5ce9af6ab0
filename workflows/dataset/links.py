"""How an image comes into a dataset without a second copy of its bytes, and yet safe from whoever trains on it."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from labeler.files.storage import copy

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FICLONE = 0x40049409  # linux/fs.h; Btrfs, XFS, bcachefs, …


def link_file(source: Path, target: Path, link: str) -> None:
    """Bring ``source`` in as ``target``, which is not there.

    Args:
        link: ``hard``, ``symlink`` or ``copy``. ``hard`` shares the bytes: by a copy-on-write clone where the file
            system has that, else by a hard link, else by a copy. Files that trainers rewrite are copied in any case.
    """
    if link == "copy" or is_rewritten_by_trainers(source):
        copy(source, target)
    elif link == "symlink":
        target.symlink_to(source.resolve())
    elif not _clone(source, target):
        try:
            os.link(source.resolve(), target)
        except OSError:  # another file system, or one without hard links
            copy(source, target)


def is_rewritten_by_trainers(path: Path) -> bool:
    """Whether trainers save the file anew in place: a JPEG that does not end with the end-of-image marker.

    Ultralytics does so in ``verify_image``, and through a link it would destroy the user's own photo.
    """
    try:
        with open(path, "rb") as file:
            if file.read(3) != b"\xff\xd8\xff":
                return False
            file.seek(-2, os.SEEK_END)
            return file.read(2) != b"\xff\xd9"
    except OSError:
        return False


def _clone(source: Path, target: Path) -> bool:
    """Whether ``target`` could be made to share the blocks of ``source`` until one of them is changed."""
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
