"""Text files of image paths, one per line."""

from __future__ import annotations

import codecs
import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import UsageError
from labeler.files.credentials import is_signed, without_secrets
from labeler.files.documents import read_limited
from labeler.files.paths import is_uri
from labeler.files.storage import as_local, locate_beside, storage_of

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath

MAX_LIST_BYTES = 2**30


def read_path_list(path: AnyPath) -> tuple[AnyPath, Iterator[str]]:
    """The root of the paths in a ``.txt`` file, as ``search_images`` describes it, and the paths below the root.

    Raises:
        UsageError: the list cannot be read, or its paths share no root.
    """
    try:
        data = read_limited(path, MAX_LIST_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes
    text = data.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace" if is_utf16 else "surrogateescape")
    if "\0" in text:
        raise UsageError(f"{path}: not a list of paths in UTF-8; save it as UTF-8 text, one path per line")
    lines = [_unquoted(line) for line in map(str.strip, text.split("\n")) if line and not line.startswith("#")]
    if (local := as_local(path)) is None or any(map(is_uri, lines)):
        return _listed_in_store(path, lines)
    root = local.parent
    entries = [_listed_path(root, line) for line in lines]
    if not all(entry.is_relative_to(root) for entry in entries):
        try:
            root = Path(os.path.commonpath([entry.parent for entry in entries]))
        except ValueError as error:  # the paths are on several Windows drives
            raise UsageError(f"{path}: the paths share no folder; put the images on one drive") from error
    return (root, (entry.relative_to(root).as_posix() for entry in entries))


def _unquoted(line: str) -> str:
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line


def _listed_path(root: Path, line: str) -> Path:
    """The absolute path that a line names; backslashes part folders, unless a file has them in its name."""
    path = Path(os.path.abspath(root / os.path.expanduser(line)))
    if "\\" not in line or os.path.exists(path):
        return path
    return Path(os.path.abspath(root / os.path.expanduser(line.replace("\\", "/"))))


def _listed_in_store(path: AnyPath, lines: Sequence[str]) -> tuple[AnyPath, Iterator[str]]:
    """As ``read_path_list``, for a list of URIs, or for a list that is in a store itself."""
    if (signed := next(filter(is_signed, lines), None)) is not None:
        raise UsageError(
            f"{path}: lists signed URLs ({without_secrets(signed)}), whose signatures would be kept with the labels; "
            "download the images, or name their folder and let the store's own credentials open it"
        )
    home = str(path.parent) if storage_of(path).is_remote else ""
    if not home and not all(map(is_uri, lines)):
        raise UsageError(f"{path}: lists both URIs and files of this machine; write one list for each")
    split = [(line if is_uri(line) else f"{home.rstrip('/')}/{line}").partition("://") for line in lines]
    entries = [posixpath.normpath(rest) for _, _, rest in split]
    base = home.partition("://")[2].rstrip("/")
    schemes = {scheme for scheme, _, _ in split} or {home.partition("://")[0]}
    if not base or not all(entry.startswith(f"{base}/") for entry in entries):
        try:
            base = posixpath.commonpath([posixpath.dirname(entry) for entry in entries])
        except ValueError:
            base = ""
    if len(schemes) > 1 or not base:
        raise UsageError(f"{path}: the URIs share no folder; write one list for each store")
    root = locate_beside(f"{schemes.pop()}://{base}", path)
    return (root, (entry.removeprefix(f"{base}/") for entry in entries))
