"""Where files are: on this machine's file systems, or in a store that fsspec reads (``s3://``, ``gs://``, …).

A place is a ``pathlib.Path``, or a ``upath.UPath`` if it was given as a URI; fsspec is imported when the first URI is
met. Credentials and options come from where fsspec and the store's own library look for them.

What goes wrong in a store is an ``OSError`` with the URI and the cause in one line, as it is for a local file; what may
pass has then been tried again, see ``labeler.files.retries``.
"""

from __future__ import annotations

import base64
import errno
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from labeler.errors import UsageError
from labeler.files.retries import may_pass, retrying

if TYPE_CHECKING:
    from typing import TypeAlias

    from upath import UPath

    StorePath: TypeAlias = UPath
    AnyPath: TypeAlias = Path | StorePath

REQUEST_SECONDS = 60.0  # what one file may take to come or go in one piece
TRANSFER_SECONDS = 1800.0  # what a listing or a transfer in parts may take; each request has the library's own limit
REQUESTS = 16  # at once
NAME_BYTES = 255  # of one part of a path, on common file systems
PARTIAL = ".partial"  # ends the name of a file that is being written

Item = TypeVar("Item")
Result = TypeVar("Result")

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two characters or more, so no drive of Windows
# s3fs asks for a file's size before it reads it, if it may read parts of it in parallel.
_OPTIONS: dict[str, dict[str, Any]] = {scheme: {"max_concurrency": 1} for scheme in ("s3", "s3a")}
# Making a folder in one of these would make a bucket, and none needs it.
_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf"})


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What is known of a file without reading it.

    Attributes:
        size: bytes.
        modified: seconds since 1970; 0 if the store does not tell.
        md5: of the content, hexadecimal; empty if not at hand.
    """

    name: str
    is_folder: bool
    size: int
    modified: float
    md5: str = ""


# ---------------------------------------------------------------- places


def is_uri(place: object) -> bool:
    return isinstance(place, str) and _URI.match(place) is not None


def locate(place: str | os.PathLike[str] | AnyPath) -> AnyPath:
    """The path that a name or URI stands for; paths stay as they are, and ``file://`` is local.

    Raises:
        UsageError: no file system is known for the URI, or its package is missing.
    """
    if not isinstance(place, str):
        return Path(place) if isinstance(place, os.PathLike) else place
    if not is_uri(place) or place.startswith("file://"):
        return Path(place.removeprefix("file://"))
    from fsspec.registry import known_implementations
    from upath import UPath

    scheme = place.partition("://")[0]
    try:
        # No listing is kept, since others may write meanwhile.
        path: StorePath = UPath(place, use_listings_cache=False, **_OPTIONS.get(scheme, {}))
        path.fs  # noqa: B018 made here, for this path and all that come of it
    except ImportError as error:
        package = known_implementations.get(scheme, {"class": "fsspec"})["class"].partition(".")[0]
        how = f"needs the package {package}; run: pip install {package}"
        raise UsageError(f"{place}: {' '.join(str(error).split()) if package == 'fsspec' else how}") from error
    except ValueError as error:
        raise UsageError(f"{place}: {' '.join(str(error).split())}") from error
    return path


def local_path(place: str) -> Path:
    """``place`` where only a local one will do.

    Raises:
        UsageError: it is a URI.
    """
    if is_uri(place):
        raise UsageError(f"{place}: only a local folder will do here; give one")
    return Path(place)


def absolute(path: AnyPath) -> AnyPath:
    return Path(os.path.abspath(path)) if isinstance(path, Path) else path


def is_within(path: AnyPath, folder: AnyPath) -> bool:
    """Whether ``path``, absolute as ``folder`` is, is the folder or lies below it."""
    if isinstance(path, Path) or isinstance(folder, Path):
        return isinstance(path, Path) and isinstance(folder, Path) and path.is_relative_to(folder)
    return f"{path}/".startswith(f"{str(folder).rstrip('/')}/")


def store_of(path: StorePath) -> tuple[str, str]:
    """Protocol and bucket or host of a URI."""
    parts = urlsplit(str(path))
    return parts.scheme, parts.netloc


# ---------------------------------------------------------------- asking a store


def _ask(path: StorePath, operation: str, *arguments: Any, seconds: float = 0.0, **options: Any) -> Any:
    """An operation of the file system that ``path`` is in; fails with an ``OSError`` that names ``path``."""
    call = getattr(path.fs, operation)
    if path.fs.async_impl:
        options["timeout"] = seconds or REQUEST_SECONDS
    try:
        return retrying(lambda: call(*arguments, **options))
    except Exception as error:
        raise _as_os_error(error, path) from error


def _as_os_error(error: BaseException, path: StorePath) -> OSError:
    if isinstance(error, FileNotFoundError) and error.__cause__ is not None and may_pass(error):
        error = error.__cause__
    if isinstance(error, OSError) and error.errno and error.strerror:
        return OSError(error.errno, " ".join(error.strerror.split()), str(path))
    kinds: dict[type[Exception], int] = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST}
    kinds |= {PermissionError: errno.EACCES, TimeoutError: errno.ETIMEDOUT, NotImplementedError: errno.ENOTSUP}
    number = next((number for kind, number in kinds.items() if isinstance(error, kind)), errno.EIO)
    text = " ".join(str(error).split())
    if not text or path.path.strip("/").startswith(text.strip("/")):  # nothing but the path, or the bucket
        text = type(error).__name__ if number == errno.EIO else os.strerror(number)
    return OSError(number, text, str(path))


# ---------------------------------------------------------------- reading


def info(path: AnyPath) -> FileInfo | None:
    """What is at ``path``, if anything."""
    if not isinstance(path, Path):
        try:
            return _file_info(_ask(path, "info", path.path))
        except FileNotFoundError:
            return None
    try:
        status = retrying(lambda: os.stat(path))
    except (OSError, ValueError):  # as os.path.exists
        return None
    return FileInfo(path.name, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime)


def scan(folder: AnyPath) -> Iterator[FileInfo]:
    """What lies right in ``folder``, in no order; without files, a store may say that the folder is not there."""
    if isinstance(folder, Path):
        for entry in retrying(lambda: list(os.scandir(folder))):
            status = entry.stat(follow_symlinks=False)
            yield FileInfo(entry.name, entry.is_dir(), status.st_size, status.st_mtime)
        return
    for found in _ask(folder, "ls", folder.path, detail=True, seconds=TRANSFER_SECONDS):
        if found["name"].strip("/") != folder.path.strip("/"):  # an object that stands for the folder itself
            yield _file_info(found)


def walk(folder: StorePath) -> Iterator[str]:
    """POSIX paths of all files below ``folder``; none if it is not there."""

    def contents(below: str) -> list[FileInfo]:
        try:
            return list(scan(folder / below if below else folder))
        except FileNotFoundError:
            return []

    level = [""]
    while level:
        folders = list[str]()
        for below, found in zip(level, in_order(contents, level), strict=True):
            folders += [f"{below}{each.name}/" for each in found if each.is_folder]
            yield from (below + each.name for each in found if not each.is_folder)
        level = folders


def read_bytes(path: AnyPath, start: int | None = None, end: int | None = None) -> bytes:
    """The file, or the part of it from ``start`` to before ``end``; a negative ``start`` counts from the file's end."""
    if isinstance(path, Path):
        return retrying(lambda: _file_bytes(path))[start:end]
    options: dict[str, Any] = {"start": start, "end": end} if (start, end) != (None, None) else {}
    if options and path.protocol == "hf":
        options["cache_type"] = "none"  # it would read megabytes ahead
    return bytes(_ask(path, "cat_file", path.path, **options))


def refuse_special(path: Path) -> None:
    """Refuse what is there and neither a file nor a folder: opening a named pipe would wait for ever.

    Raises:
        OSError: it is such.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return  # opening it says so
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def _file_bytes(path: Path) -> bytes:
    refuse_special(path)
    return path.read_bytes()


def _file_info(found: Mapping[str, Any]) -> FileInfo:
    name = str(found["name"]).rstrip("/").rpartition("/")[2]
    is_folder = found["type"] == "directory" or found.get("mimetype") == "text/html"  # a web server's listing
    return FileInfo(name, is_folder, int(found.get("size") or 0), _modified(found), _md5(found))


def _modified(found: Mapping[str, Any]) -> float:
    for key in ("mtime", "LastModified", "last_modified", "created"):
        value = found.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0


def _md5(found: Mapping[str, Any]) -> str:
    """S3's ETag is the MD5 of what went up in one piece; others state it in Base64."""
    tag = str(found.get("ETag", "")).strip('"')
    if re.fullmatch("[0-9a-f]{32}", tag):
        return tag
    stated = found.get("md5Hash") or getattr(found.get("content_settings"), "content_md5", None)
    if isinstance(stated, str):
        stated = base64.b64decode(stated)
    return bytes(stated).hex() if stated else ""


# ---------------------------------------------------------------- writing


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Write a file that is there whole or not at all; a power cut leaves the old one or the whole new one."""
    if isinstance(path, Path):
        retrying(lambda: _replace(path, data))
        return
    try:
        _ask(path, "pipe_file", path.path, data)
    except FileNotFoundError:
        if path.protocol in _WITHOUT_FOLDERS:
            raise
        _ask(path, "makedirs", path.parent.path, exist_ok=True)
        _ask(path, "pipe_file", path.path, data)


def _replace(path: Path, data: bytes) -> None:
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of this writer alone: one that was taken for dead may still be at the same file.
        temporary = path.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def move_file(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``, in whose place it is whole at every moment, also on another file system."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        temporary = target.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
        with naming(target):
            try:
                shutil.copy2(source, temporary, follow_symlinks=False)
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        source.unlink()


def remove_partial(folder: Path) -> None:
    """Remove what killed writes left right in ``folder``, which is this tool's own; nobody may be writing there."""
    for path in folder.glob(f".*{PARTIAL}"):
        path.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An ``OSError`` that names no file, such as that of a full disk, names ``path``."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror or os.strerror(error.errno), str(path)) from error


def create(path: StorePath, data: bytes) -> bool:
    """Write a file unless there is one; whether it was written.

    Of several at once only one succeeds where the store has conditional writes, as S3 and Google Cloud Storage have.
    """
    try:
        _ask(path, "pipe_file", path.path, data, mode="create")
    except FileExistsError:
        return False
    return True


def remove(path: AnyPath) -> None:
    """Remove a file, if it is there."""
    if isinstance(path, Path):
        path.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError):
        _ask(path, "rm_file", path.path)


def copy(source: AnyPath, target: AnyPath) -> None:
    """Copy a file; within one store the bytes stay there."""
    if isinstance(source, Path):
        if isinstance(target, Path):
            with naming(target):
                shutil.copy2(source, target)
        else:
            _ask(target, "put_file", str(source), target.path, seconds=TRANSFER_SECONDS)
    elif isinstance(target, Path):
        _ask(source, "get_file", source.path, str(target), seconds=TRANSFER_SECONDS)
    elif source.fs is target.fs:
        _ask(source, "cp_file", source.path, target.path, seconds=TRANSFER_SECONDS)
    else:  # by way of a file: one opened for writing in a store would appear cut short if reading failed
        with tempfile.TemporaryDirectory() as scratch:
            copy(source, Path(scratch, "file"))
            copy(Path(scratch, "file"), target)


def free_path(path: AnyPath) -> AnyPath:
    """``path``, or one beside it with a number, where nothing is yet."""
    free, count = path, 1
    while os.path.lexists(free) if isinstance(free, Path) else info(free) is not None:
        count += 1
        ending = f"_{count}{path.suffix}".encode()
        free = path.with_name((path.stem.encode()[: NAME_BYTES - len(ending)] + ending).decode(errors="ignore"))
    return free


def move(source: AnyPath, target: AnyPath) -> None:
    """Move a file to a folder that may not be there yet; in a store it is copied, then removed."""
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path):
            move_file(source, target)
            return
    elif target.protocol not in _WITHOUT_FOLDERS:
        _ask(target, "makedirs", target.parent.path, exist_ok=True)
    copy(source, target)
    remove(source)


def in_order(call: Callable[[Item], Result], items: Iterable[Item], ahead: int = REQUESTS) -> Iterator[Result]:
    """``call`` of each item, several at once; the results in the order of the items, few of them waiting."""
    with ThreadPoolExecutor(ahead) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
