"""Link images into a dataset without copying their bytes, and without risk to the user's photos when training."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.files.storage import as_local, copy
from labeler.formats.rewritten import is_rewritten_by_trainers

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


@dataclass(frozen=True, slots=True)
class Pair:
    """An image file of a dataset, and the image of the input that it stands for; both are on this machine."""

    file: os.stat_result
    original: os.stat_result
    original_path: Path

    @property
    def is_one_file(self) -> bool:
        return os.path.samestat(self.file, self.original)

    @property
    def is_alike(self) -> bool:
        """Whether both have one size and time."""
        ours, theirs = self.file, self.original
        return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)

    def is_linked_well(self, link: str, *, is_symlink: bool, is_known: bool) -> bool:
        """Whether the file is what ``link_file`` would make.

        Args:
            is_symlink: the file is a symbolic link.
            is_known: trainers have not written into the file since it was linked.
        """
        if not stat.S_ISREG(self.original.st_mode):
            return True
        if link == "copy":
            return not self.is_one_file
        if not self.is_one_file:  # a copy or a clone
            return link == "hard" or is_rewritten_by_trainers(self.original_path)
        if is_symlink != (link == "symlink"):
            return False
        return is_known or not is_rewritten_by_trainers(self.original_path)


def pair_of(path: AnyPath, original: AnyPath) -> Pair | None:
    """The two files; None if one is in a store, or is not there."""
    file, image = as_local(path), as_local(original)
    if file is None or image is None:
        return None
    try:
        return Pair(file.stat(), image.stat(), image)
    except (OSError, ValueError):
        return None


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
