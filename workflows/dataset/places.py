"""Where a dataset lies, as publishing sees it: what is there now, and how files are added, moved and deleted.

A folder of this machine gets its new files by renaming, from ``run/building`` where they are made; so every file is
whole at every moment, and the journal can be carried out again by the next run. A store gets uploads, which are whole
or not there; what was made for them is lost with the run, so there the journal only tells which files are this tool's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labeler.errors import ImageError
from labeler.files.images import content_digest, digest_at
from labeler.files.listing import stamp_of, stamps
from labeler.files.storage import FileInfo, copy, free_path, in_order, move, move_file, read_bytes, remove, scan
from workflows.dataset.journal import JOURNAL, Operation
from workflows.dataset.ledger import Entry
from workflows.dataset.links import link_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath, StorePath

FOLDER = "folder"  # the stamp of a folder
SET_ASIDE = "run/set-aside"
SYNCED_SINGLY = 256  # files; for more, one sync of all disks takes less time


class Place(Protocol):
    """Where a dataset lies.

    Attributes:
        building: a folder of this machine in which new files are made, under the names they will have.
    """

    building: Path

    def path(self, name: str) -> AnyPath: ...

    def stamp(self, name: str) -> str:
        """What tells an edited file without reading it; empty if nothing is there, ``FOLDER`` for a folder."""
        ...

    def digest(self, name: str) -> str:
        """Of a file's content, as ``labeler.files.images.content_digest``; empty if it cannot be read."""
        ...

    def check(self, name: str) -> None:
        """Raise an ``ImageError`` where no file of that name can be made."""
        ...

    def bring(self, source: AnyPath, name: str, link: str) -> None:
        """Make a new file of ``source``, an image."""
        ...

    def settle(self) -> None:
        """Return once what is in ``building`` outlives a power cut."""
        ...

    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        """Change the dataset, one phase after the other; the entries of what was put or moved are returned."""
        ...

    def clean_up(self) -> None:
        """Remove ``building``, unless the journal still needs it."""
        ...


class LocalPlace:
    """A folder of this machine."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.building = output / "run" / "building"
        self._fault = lru_cache(maxsize=1024)(self._fault_of_folder)

    def path(self, name: str) -> Path:
        return self.output / name

    def stamp(self, name: str) -> str:
        return _stamp(self.output / name)

    def digest(self, name: str) -> str:
        return digest_at(self.output / name)

    def check(self, name: str) -> None:
        if fault := self._fault(name.rpartition("/")[0]):
            raise ImageError(fault)
        if self.stamp(name) == FOLDER:
            raise ImageError(f"{self.output / name} is a folder where a file belongs; move it away")

    def _fault_of_folder(self, folder: str) -> str:
        """Why no file can be made in it; empty if one can."""
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
        if isinstance(source, Path):
            link_file(source, target, link)
        else:
            copy(source, target)

    def settle(self) -> None:
        made = [path for path in self.building.rglob("*") if path.is_file() and not path.is_symlink()]
        if len(made) > SYNCED_SINGLY and hasattr(os, "sync"):
            os.sync()
            return
        for path in made:
            with open(path, "rb") as file:
                os.fsync(file.fileno())

    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        """As the protocol says; may be repeated, and leaves alone what is not as expected any more."""
        entries = []
        emptied: set[Path] = set()
        for each in (operation for phase in phases for operation in phase):
            path = self.output / each.name
            source = self.output / each.source if each.do == "move" else self.building / each.name
            stamp = _stamp(path)
            # After a copy of the folder, times are others and the content is not.
            expected = stamp == each.expected or (bool(stamp and each.old) and self.digest(each.name) == each.old)
            expected = expected and not self._fault(each.name.rpartition("/")[0])
            if each.adds:
                if is_new := expected and os.path.lexists(source):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    move_file(source, path)
                    emptied.update({source.parent} if each.do == "move" else ())
                # A file that is not known to be in place as it was made is compared by its content next time.
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
        """Remove folders that have become empty, up to ``images``, ``labels`` and so on."""
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            while folder != self.output and not folder.is_symlink():
                try:
                    folder.rmdir()
                except OSError:  # not empty
                    break
                folder = folder.parent

    def clean_up(self) -> None:
        if self.building.is_symlink():  # else files would be made, and removed, where it leads
            self.building.unlink()
        elif not (self.output / JOURNAL).exists():
            shutil.rmtree(self.building, ignore_errors=True)


def _stamp(path: Path) -> str:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if os.path.islink(path):
        try:
            target = os.stat(path)
        except OSError:  # it leads nowhere
            return ""
        return f"link:{os.readlink(path)}:{target.st_size}-{target.st_mtime_ns}"
    return FOLDER if os.path.isdir(path) else f"{status.st_size}-{status.st_mtime_ns}"


class StorePlace:
    """A folder in a store."""

    def __init__(self, output: StorePath) -> None:
        self.output = output
        self.building = Path(tempfile.mkdtemp(prefix="labeler-"))
        self._folder = lru_cache(maxsize=16)(self._list)
        self._sources: dict[str, AnyPath] = {}

    def path(self, name: str) -> StorePath:
        return self.output / name

    def stamp(self, name: str) -> str:
        folder, _, base = name.rpartition("/")
        found = self._folder(folder).get(base)
        return "" if found is None else FOLDER if found.is_folder else stamp_of(found)

    def _list(self, folder: str) -> dict[str, FileInfo]:
        try:
            return {found.name: found for found in scan(self.output / folder if folder else self.output)}
        except FileNotFoundError:
            return {}

    def digest(self, name: str) -> str:
        try:
            return content_digest(read_bytes(self.output / name))
        except FileNotFoundError:
            return ""

    def check(self, name: str) -> None:
        pass  # a store has no folders that could be in the way

    def bring(self, source: AnyPath, name: str, link: str) -> None:
        self._sources[name] = source

    def settle(self) -> None:
        pass  # uploads are whole or not there

    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        for phase in phases:
            for _ in in_order(self._do, phase):
                pass
        self._folder.cache_clear()
        added = [each for phase in phases for each in phase if each.adds]
        known = stamps(self.output, [each.name for each in added])
        return [each.entry(stamp) for each, stamp in zip(added, known, strict=True)]

    def _do(self, operation: Operation) -> None:
        path = self.output / operation.name
        if operation.do == "put":
            copy(self._sources.get(operation.name, self.building / operation.name), path)
        elif operation.do == "move":
            move(self.output / operation.source, path)
        elif operation.do == "delete":
            remove(path)
        else:
            move(path, free_path(self.output / SET_ASIDE / operation.name))

    def clean_up(self) -> None:
        shutil.rmtree(self.building, ignore_errors=True)


class Nowhere:
    """A place with nothing in it, to find out what an export would write."""

    def __init__(self) -> None:
        self.building = Path(tempfile.mkdtemp(prefix="labeler-"))

    def path(self, name: str) -> Path:
        return self.building / name

    def stamp(self, name: str) -> str:
        return ""

    def digest(self, name: str) -> str:
        return ""

    def check(self, name: str) -> None: ...
    def bring(self, source: AnyPath, name: str, link: str) -> None: ...
    def settle(self) -> None: ...
    def carry_out(self, phases: Sequence[Sequence[Operation]]) -> list[Entry]:
        raise NotImplementedError

    def clean_up(self) -> None:
        shutil.rmtree(self.building, ignore_errors=True)


def place_of(output: AnyPath) -> Place:
    return LocalPlace(output) if isinstance(output, Path) else StorePlace(output)
