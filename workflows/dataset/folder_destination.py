"""Publish a dataset to a local folder.

New files are created in ``run/building`` and renamed into place. So every file is complete at any moment, and the next
run can repeat the journal of a run that was killed.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import ImageError
from labeler.files.images import digest_at
from labeler.files.local import move_file
from labeler.files.storage import free_path, move
from workflows.dataset.journal import JOURNAL, SET_ASIDE, Operation
from workflows.dataset.ledger import FOLDER, Entry
from workflows.dataset.links import link_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SYNCED_SINGLY = 256  # files; above this, syncing all disks once is faster


class FolderDestination:
    """``Destination`` in a local folder."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.building = output / "run" / "building"
        self._folder = os.path.join(output, "")
        self._fault = lru_cache(maxsize=1024)(self._fault_of_folder)

    def path(self, name: str) -> Path:
        return self.output / name

    def stamp(self, name: str) -> str:
        return _stamp(self._folder + name)

    def digest(self, name: str) -> str:
        return digest_at(self.output / name)

    def checked_stamp(self, name: str) -> str:
        if fault := self._fault(name.rpartition("/")[0]):
            raise ImageError(fault)
        if (stamp := self.stamp(name)) == FOLDER:
            raise ImageError(f"{self.output / name} is a folder where a file belongs; move it away")
        return stamp

    def _fault_of_folder(self, folder: str) -> str:
        """Why no file can be created in ``folder``; empty if one can."""
        path = self.output / folder
        while not os.path.lexists(path):
            path = path.parent
        if not path.is_dir():
            return f"{path} is a file where a folder belongs; move it away"
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.output)):
            return f"{path} leads out of {self.output}; put a folder in its place"
        return ""

    def bring(self, source: AnyPath, name: str, link: str) -> None:
        target = self.building / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        link_file(source, target, link)

    def settle(self) -> None:
        sync([path for path in self.building.rglob("*") if path.is_file() and not path.is_symlink()])

    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        """Carry out ``phases`` by renaming. Can be repeated, and skips files that are no longer as expected."""
        entries = []
        emptied: set[Path] = set()
        for each in (operation for phase in phases for operation in phase):
            path = self.output / each.name
            source = self.output / each.source if each.do == "move" else self.building / each.name
            stamp = _stamp(path)
            # If the whole folder was copied, the times differ but the content does not.
            expected = stamp == each.expected or (bool(stamp and each.old) and self.digest(each.name) == each.old)
            expected = expected and not self._fault(each.name.rpartition("/")[0])
            if each.adds:
                if is_new := expected and os.path.lexists(source):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    move_file(source, path)
                    emptied.update({source.parent} if each.do == "move" else ())
                # Without a stamp, the next export compares the content.
                entries.append(each.entry(_stamp(path) if is_new else ""))
            elif expected and each.expected:
                if each.do == "delete":
                    path.unlink()
                else:
                    move(path, free_path(self.output / SET_ASIDE / each.name))
                emptied.add(path.parent)
        self._remove_empty(emptied)
        return entries

    def _remove_empty(self, folders: Iterable[Path]) -> None:
        """Remove folders that have become empty, including parents such as ``images`` and ``labels``."""
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            while folder != self.output and not folder.is_symlink():
                try:
                    folder.rmdir()
                except OSError:  # not empty
                    break
                folder = folder.parent

    def clean_up(self) -> None:
        if self.building.is_symlink():  # otherwise files would be created and deleted where it points
            self.building.unlink()
        elif not (self.output / JOURNAL).exists():
            shutil.rmtree(self.building, ignore_errors=True)


def sync(files: Sequence[Path]) -> None:
    """Sync ``files`` to disk."""
    if len(files) > SYNCED_SINGLY and hasattr(os, "sync"):
        os.sync()
        return
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _stamp(path: str | Path) -> str:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISLNK(status.st_mode):
        try:
            target = os.stat(path)
        except OSError:  # a broken link
            return ""
        return f"link:{os.readlink(path)}:{target.st_size}-{target.st_mtime_ns}"
    return FOLDER if stat.S_ISDIR(status.st_mode) else f"{status.st_size}-{status.st_mtime_ns}"
