"""Files on this machine or in a store that fsspec reads (``s3://``, ``gs://``, …), through one interface.

A path is a ``pathlib.Path``, or a ``upath.UPath`` if it was given as a URI. ``storage_of(path)`` returns the storage
that holds it; the functions below work on any path. Every failure is an ``OSError`` that names the file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar
from urllib.parse import urlsplit

from labeler.errors import UsageError
from labeler.files.local import LocalStorage, move_file, replacing_file
from labeler.files.paths import FileInfo, is_uri
from labeler.files.store import FsspecStorage, open_uri

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath as AnyPath
    from labeler.files.paths import StorePath as StorePath

NAME_BYTES = 255  # the longest file name that common file systems allow

PathT = TypeVar("PathT", contravariant=True)


class Storage(Protocol[PathT]):
    """What the rest of the code asks of a file system. Implemented by ``LocalStorage`` and ``FsspecStorage``.

    Attributes:
        is_remote: each call is a network request, so read small ranges, list whole folders, and run calls in parallel.
        has_links: files can be hard links or symbolic links.
        has_locks: the system releases a file lock when the process that holds it ends.
    """

    is_remote: bool
    has_links: bool
    has_locks: bool

    # The functions of the same names below document these.
    def info(self, path: PathT) -> FileInfo | None: ...
    def scan(self, folder: PathT) -> Iterable[FileInfo]: ...
    def read_bytes(self, path: PathT, start: int | None = None, end: int | None = None) -> bytes: ...
    def write_bytes(self, path: PathT, data: bytes) -> None: ...
    def remove(self, path: PathT) -> None: ...

    def identity(self, folder: PathT) -> str:
        """A name for the folder that is the same for every path that leads to it."""

    def stamps(self, root: PathT, names: Sequence[str]) -> list[str]:
        """A stamp for each file below ``root`` that changes when the file does; empty for a file that does not exist.

        For a local file: size, mtime and ctime, both in nanoseconds. For an object in a store: ``FileInfo.stamp``.
        """

    def open(self, path: PathT, block_size: int) -> BinaryIO:
        """Open the file for reading and seeking; a store is read at least ``block_size`` bytes at a time."""

    def for_seeking(self, path: PathT) -> Path | BinaryIO:
        """What to pass to a library that seeks in files: the path itself, or the content if the file is in a store."""

    def append_lines(self, path: PathT, lines: bytes) -> None:
        """Append whole lines, after ending a last line that a killed process left torn; they survive a power cut.

        On this machine, several processes may append at once.
        """

    def create(self, path: PathT, data: bytes) -> bool:
        """Write the file only if it does not exist; returns whether it was written.

        If several processes try at once, one succeeds; a store needs conditional writes for that, as S3 and Google
        Cloud Storage have.
        """

    def make_folder(self, folder: PathT) -> None:
        """Create ``folder`` and its parents; does nothing in a store without folders."""

    def upload(self, source: Path, path: PathT) -> None:
        """Copy a local file to ``path``."""

    def download(self, path: PathT, target: Path) -> None:
        """Copy the file at ``path`` to a local file."""

    def copy_within(self, source: PathT, target: PathT) -> bool:
        """Copy a file inside a store without downloading it; returns False if the two paths are not in one store."""


_LOCAL: Storage[Path] = LocalStorage()
_STORE: Storage[StorePath] = FsspecStorage()


def storage_of(path: AnyPath) -> Storage[Any]:
    return _LOCAL if isinstance(path, Path) else _STORE


# ---------------------------------------------------------------- paths


def locate(name: str | os.PathLike[str] | AnyPath) -> AnyPath:
    """The path for a name or URI. Paths are returned as they are; ``file://`` URIs are local.

    Raises:
        UsageError: fsspec does not know the URI's scheme, or the package for it is not installed.
    """
    if not isinstance(name, str):
        return Path(name) if isinstance(name, os.PathLike) else name
    if not is_uri(name) or name.startswith("file://"):
        return Path(name.removeprefix("file://"))
    return open_uri(name)


def locate_beside(name: str, known: AnyPath) -> AnyPath:
    """As ``locate``; in the store that holds ``known``, with the credentials that were given for it.

    Raises:
        UsageError: as ``locate``.
    """
    path = locate(name)
    if isinstance(path, Path) or isinstance(known, Path) or is_in_another_store(path, known):
        return path
    return type(known)(str(path), protocol=known.protocol, **known.storage_options)


def local_path(name: str) -> Path:
    """The path for ``name`` where only a local path is accepted.

    Raises:
        UsageError: it is a URI.
    """
    if is_uri(name):
        raise UsageError(f"{name}: only a local path is accepted here")
    return Path(name)


def as_local(path: AnyPath) -> Path | None:
    """``path`` as a ``pathlib.Path``; None if it is in a store."""
    return path if isinstance(path, Path) else None


def is_link(path: AnyPath) -> bool:
    """Whether ``path`` is a symbolic link, even a broken one."""
    return (local := as_local(path)) is not None and local.is_symlink()


def absolute(path: AnyPath) -> AnyPath:
    return Path(os.path.abspath(path)) if isinstance(path, Path) else path


def is_within(path: AnyPath, folder: AnyPath) -> bool:
    """Whether ``path`` is ``folder`` or lies below it; both must be absolute."""
    if (inner := as_local(path)) and (outer := as_local(folder)):
        return inner.is_relative_to(outer)
    return f"{path}/".startswith(f"{str(folder).rstrip('/')}/")


def is_in_another_store(path: AnyPath, known: AnyPath) -> bool:
    """Whether ``path`` is in a store (protocol plus bucket or host) other than the one that holds ``known``."""
    return storage_of(path).is_remote and urlsplit(str(path))[:2] != urlsplit(str(known))[:2]


def free_path(path: AnyPath) -> AnyPath:
    """``path`` if nothing exists there, else the first free ``stem_2.suffix``, ``stem_3.suffix``, … beside it."""
    free, count = path, 1
    while info(free) is not None or is_link(free):
        count += 1
        ending = f"_{count}{path.suffix}".encode()
        free = path.with_name((path.stem.encode()[: NAME_BYTES - len(ending)] + ending).decode(errors="ignore"))
    return free


# ---------------------------------------------------------------- reading and writing any path


def info(path: AnyPath) -> FileInfo | None:
    """What is at ``path``; None if nothing is. Links are followed."""
    return storage_of(path).info(path)


def scan(folder: AnyPath) -> Iterable[FileInfo]:
    """The direct children of ``folder``, unordered. A store may raise FileNotFoundError for an empty folder."""
    return storage_of(folder).scan(folder)


def read_bytes(path: AnyPath, start: int | None = None, end: int | None = None) -> bytes:
    """The content of the file, or its bytes ``[start:end]``; a negative ``start`` counts from the end."""
    return storage_of(path).read_bytes(path, start, end)


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Write a file atomically: after a kill or a power cut, the old or the complete new content is there."""
    storage_of(path).write_bytes(path, data)


@contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """A local file to write, which becomes the file at ``path`` at the end of the block, as atomically as above."""
    if (local := as_local(path)) is not None:
        with replacing_file(local) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch, "file")
        storage_of(path).upload(Path(scratch, "file"), path)


def remove(path: AnyPath) -> None:
    """Delete a file if it exists."""
    storage_of(path).remove(path)


# ---------------------------------------------------------------- copying and moving


def copy(source: AnyPath, target: AnyPath) -> None:
    """Copy a file. Within one store, nothing is downloaded."""
    here, there = storage_of(source), storage_of(target)
    if (file := as_local(source)) is not None:
        there.upload(file, target)
    elif (file := as_local(target)) is not None:
        here.download(source, file)
    elif not here.copy_within(source, target):
        # Through a local file: if reading failed midway, an open upload would leave a truncated object.
        with tempfile.TemporaryDirectory() as scratch:
            here.download(source, Path(scratch, "file"))
            there.upload(Path(scratch, "file"), target)


def move(source: AnyPath, target: AnyPath) -> None:
    """Move a file, creating the target folder. A store cannot rename, so there the file is copied and then deleted."""
    storage_of(target).make_folder(target.parent)
    if (here := as_local(source)) and (there := as_local(target)):
        move_file(here, there)
    else:
        copy(source, target)
        remove(source)
