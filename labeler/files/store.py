"""Files in a store that fsspec reads (``s3://``, ``gs://``, …). fsspec is imported when the first URI is used.

Credentials and options come from wherever fsspec and the store's own library look for them. Transient failures are
retried (``labeler.files.retries``); any other failure is an ``OSError`` with the URI and a one-line cause, as for a
local file.
"""

from __future__ import annotations

import base64
import errno
import io
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from labeler.errors import UsageError
from labeler.files.credentials import split_credentials, without_secrets
from labeler.files.parallel import in_order
from labeler.files.paths import FileInfo
from labeler.files.retries import may_pass, retrying

if TYPE_CHECKING:
    from labeler.files.paths import StorePath

REQUEST_SECONDS = 60.0  # limit for reading or writing a whole object
TRANSFER_SECONDS = 1800.0  # limit for a listing or a multi-part transfer, whose single requests the library limits

# With more than one connection per file, s3fs first sends a request for the size of every file it reads.
_OPTIONS: dict[str, dict[str, Any]] = {scheme: {"max_concurrency": 1} for scheme in ("s3", "s3a")}
# These need no folders, and creating one could create a bucket.
_WITHOUT_FOLDERS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf"})


def open_uri(uri: str) -> StorePath:
    """The path for ``uri``. Passwords and signatures are options of its file system, and no part of its text.

    Raises:
        UsageError: fsspec does not know the URI's scheme, or the package for it is not installed.
    """
    from fsspec import get_filesystem_class
    from fsspec.registry import known_implementations
    from upath import UPath

    scheme = uri.partition("://")[0]
    try:
        # Listings are not cached, since other processes may write at the same time.
        uri, secrets = split_credentials(uri, lambda uri: get_filesystem_class(scheme)._get_kwargs_from_urls(uri))
        path: StorePath = UPath(uri, use_listings_cache=False, **_OPTIONS.get(scheme, {}), **secrets)
        path.fs  # noqa: B018 creates the file system, which all paths derived from this one share
    except ImportError as error:
        package = known_implementations.get(scheme, {"class": "fsspec"})["class"].partition(".")[0]
        how = f"needs the package {package}; run: pip install {package}"
        raise UsageError(f"{uri}: {' '.join(str(error).split()) if package == 'fsspec' else how}") from error
    except ValueError as error:
        raise UsageError(f"{uri}: {' '.join(str(error).split())}") from error
    return path


class FsspecStorage:
    """``Storage`` in a store. Uploads are atomic; there are no links, no file locks and no renaming."""

    is_remote: bool = True
    has_links: bool = False
    has_locks: bool = False

    def info(self, path: StorePath) -> FileInfo | None:
        try:
            return _file_info(_ask(path, "info", path.path))
        except FileNotFoundError:
            return None

    def scan(self, folder: StorePath) -> Iterator[FileInfo]:
        for entry in _ask(folder, "ls", folder.path, detail=True, seconds=TRANSFER_SECONDS):
            if entry["name"].strip("/") != folder.path.strip("/"):  # an object that marks the folder itself
                yield _file_info(entry)

    def identity(self, folder: StorePath) -> str:
        return str(folder).rstrip("/")

    def stamps(self, root: StorePath, names: Sequence[str]) -> list[str]:
        wanted, found = set(names), dict[str, str]()

        def look(folder: str) -> None:
            with suppress(FileNotFoundError):
                for file in self.scan(root / folder if folder else root):
                    if not file.is_folder and (name := posixpath.join(folder, file.name)) in wanted:
                        found[name] = file.stamp

        for _ in in_order(look, sorted({posixpath.dirname(name) for name in names})):
            pass
        return [found.get(name, "") for name in names]

    def read_bytes(self, path: StorePath, start: int | None = None, end: int | None = None) -> bytes:
        options: dict[str, Any] = {"start": start, "end": end} if (start, end) != (None, None) else {}
        if options and path.protocol == "hf":
            options["cache_type"] = "none"  # it would read ahead by megabytes
        return bytes(_ask(path, "cat_file", path.path, **options))

    def open(self, path: StorePath, block_size: int) -> BinaryIO:
        return cast(BinaryIO, path.fs.open(path.path, "rb", block_size=block_size))

    def for_seeking(self, path: StorePath) -> BinaryIO:
        return io.BytesIO(self.read_bytes(path))

    def write_bytes(self, path: StorePath, data: bytes) -> None:
        try:
            _ask(path, "pipe_file", path.path, data)
        except FileNotFoundError:
            if path.protocol in _WITHOUT_FOLDERS:
                raise
            self.make_folder(path.parent)
            _ask(path, "pipe_file", path.path, data)

    def append_lines(self, path: StorePath, lines: bytes) -> None:
        try:
            before = self.read_bytes(path)
        except FileNotFoundError:
            before = b""
        self.write_bytes(path, before + (b"\n" if before and not before.endswith(b"\n") else b"") + lines)

    def create(self, path: StorePath, data: bytes) -> bool:
        try:
            _ask(path, "pipe_file", path.path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def make_folder(self, folder: StorePath) -> None:
        if folder.protocol not in _WITHOUT_FOLDERS:
            _ask(folder, "makedirs", folder.path, exist_ok=True)

    def remove(self, path: StorePath) -> None:
        with suppress(FileNotFoundError):
            _ask(path, "rm_file", path.path)

    def upload(self, source: Path, path: StorePath) -> None:
        _ask(path, "put_file", str(source), path.path, seconds=TRANSFER_SECONDS)

    def download(self, path: StorePath, target: Path) -> None:
        _ask(path, "get_file", path.path, str(target), seconds=TRANSFER_SECONDS)

    def copy_within(self, source: StorePath, target: StorePath) -> bool:
        if source.fs is not target.fs:
            return False
        _ask(source, "cp_file", source.path, target.path, seconds=TRANSFER_SECONDS)
        return True


def _ask(path: StorePath, operation: str, *arguments: Any, seconds: float = 0.0, **options: Any) -> Any:
    """Call a method of the file system of ``path``, with retries; a failure is an ``OSError`` that names ``path``."""
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
        return OSError(error.errno, without_secrets(" ".join(error.strerror.split())), str(path))
    kinds: dict[type[Exception], int] = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST}
    kinds |= {PermissionError: errno.EACCES, TimeoutError: errno.ETIMEDOUT, NotImplementedError: errno.ENOTSUP}
    number = next((number for kind, number in kinds.items() if isinstance(error, kind)), errno.EIO)
    text = without_secrets(" ".join(str(error).split()))
    if not text or path.path.strip("/").startswith(text.strip("/")):  # the message is only the path or the bucket
        text = type(error).__name__ if number == errno.EIO else os.strerror(number)
    return OSError(number, text, str(path))


def _file_info(entry: Mapping[str, Any]) -> FileInfo:
    name = str(entry["name"]).rstrip("/").rpartition("/")[2]
    is_folder = entry["type"] == "directory" or entry.get("mimetype") == "text/html"  # an HTML listing of a web server
    size = int(entry.get("size") or 0)
    return FileInfo(name, is_folder, size=size, modified=_modified(entry), md5=_md5(entry))


def _modified(entry: Mapping[str, Any]) -> float:
    for key in ("mtime", "LastModified", "last_modified", "created"):
        value = entry.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, (int, float)):
            return float(value)
    return 0.0


def _md5(entry: Mapping[str, Any]) -> str:
    """The MD5 if the store reports it: S3 as ETag, except for multi-part uploads; others in Base64."""
    tag = str(entry.get("ETag", "")).strip('"')
    if re.fullmatch("[0-9a-f]{32}", tag):
        return tag
    stated = entry.get("md5Hash") or getattr(entry.get("content_settings"), "content_md5", None)
    if isinstance(stated, str):
        stated = base64.b64decode(stated)
    return bytes(stated).hex() if stated else ""
