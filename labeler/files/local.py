"""Files on the file systems of this machine."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from labeler.files.paths import FileInfo
from labeler.files.retries import retrying

PARTIAL = ".partial"  # suffix of a file that is being written


class LocalStorage:
    """``Storage`` on this machine. Files are written under another name, synced to disk, and renamed into place."""

    is_remote: bool = False
    has_links: bool = True
    has_locks: bool = True

    def info(self, path: Path) -> FileInfo | None:
        try:
            status = retrying(lambda: os.stat(path))
        except (OSError, ValueError):  # as os.path.exists
            return None
        folder = stat.S_ISDIR(status.st_mode)
        return FileInfo(path.name, folder, size=status.st_size, modified=status.st_mtime)

    def scan(self, folder: Path) -> Iterator[FileInfo]:
        for entry in retrying(lambda: list(os.scandir(folder))):
            is_link = entry.is_symlink()
            is_folder = (
                os.path.isdir(entry.path) if is_link else entry.is_dir()
            )  # is_dir() raises if a link points to itself
            yield FileInfo(entry.name, is_folder, is_link, not (is_folder or is_link or entry.is_file()))

    def identity(self, folder: Path) -> str:
        return os.path.realpath(folder)

    def stamps(self, root: Path, names: Sequence[str]) -> list[str]:
        return [_stamp(f"{root}/{name}") for name in names]

    def read_bytes(self, path: Path, start: int | None = None, end: int | None = None) -> bytes:
        def read() -> bytes:
            _refuse_special(path)
            return path.read_bytes()

        return retrying(read)[start:end]

    def open(self, path: Path, block_size: int) -> BinaryIO:
        _refuse_special(path)
        return open(path, "rb")

    def for_seeking(self, path: Path) -> Path:
        _refuse_special(path)
        return path

    def write_bytes(self, path: Path, data: bytes) -> None:
        retrying(lambda: _replace(path, data))

    def append_lines(self, path: Path, lines: bytes) -> None:
        is_new = not path.exists()
        with open(path, "ab+", buffering=0) as file:
            if end := file.seek(0, os.SEEK_END):
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    lines = b"\n" + lines
            written = 0
            while written < len(lines):  # one write, unless the disk is full
                written += file.write(lines[written:])
            os.fsync(file.fileno())
        if is_new and os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def create(self, path: Path, data: bytes) -> bool:
        try:
            with open(path, "xb") as file:
                file.write(data)
        except FileExistsError:
            return False
        return True

    def make_folder(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def upload(self, source: Path, path: Path) -> None:
        with naming(path):
            shutil.copy2(source, path)

    def download(self, path: Path, target: Path) -> None:
        self.upload(path, target)

    def copy_within(self, source: Path, target: Path) -> bool:
        return False


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _refuse_special(path: Path) -> None:
    """Refuse pipes, devices and sockets: opening a named pipe would block forever.

    Raises:
        OSError: ``path`` exists and is neither a file nor a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return  # opening it raises
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _replace(path: Path, data: bytes) -> None:
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write, which is synced to disk and renamed to ``path`` at the end of the block."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path) as temporary:
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)


def move_file(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``; never leaves a partial ``target``, even when moving between file systems."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with naming(target), _partial(target) as temporary:
            shutil.copy2(source, temporary, follow_symlinks=False)
            os.replace(temporary, target)
        source.unlink()


@contextmanager
def without_partial(folders: Sequence[Path]) -> Iterator[None]:
    """Delete the temporary files that killed writes left in ``folders``, before and after; nobody else writes there.

    Before, they are of a process that was killed; after, of workers that were killed while this one went on.
    """
    _remove_partial(folders)
    try:
        yield
    finally:
        _remove_partial(folders)


def _remove_partial(folders: Sequence[Path]) -> None:
    for path in (path for folder in folders for path in folder.glob(f".*{PARTIAL}")):
        path.unlink(missing_ok=True)


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path``, unique to this call: a writer that was taken for dead may still be writing."""
    temporary = path.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add ``path`` to any ``OSError`` that names no file, such as the one for a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror or os.strerror(error.errno), str(path)) from error
