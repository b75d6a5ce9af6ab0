"""Path types, and what is known about a file without reading it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    from upath import UPath

    StorePath: TypeAlias = UPath
    AnyPath: TypeAlias = Path | StorePath

OF_CONTENT = "md5:"  # prefix of a stamp that is a checksum
NO_TIME = "-0.0"  # suffix of a stamp from a store that reports no modification time

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # at least two characters, so not a Windows drive


class FileInfo(NamedTuple):
    """What is known about a file without reading it.

    Attributes:
        is_special: a pipe, a device or a socket.
        size: in bytes; None in the listing of a local folder, which would need one more system call per file.
        modified: seconds since 1970; 0 if unknown.
        md5: hexadecimal checksum of the content; empty if the store reports none.
    """

    name: str
    is_folder: bool
    is_link: bool = False
    is_special: bool = False
    size: int | None = None
    modified: float = 0.0
    md5: str = ""

    @property
    def stamp(self) -> str:
        """Changes when an object in a store is replaced: its checksum if known, else its size and time."""
        return f"{OF_CONTENT}{self.md5}" if self.md5 else f"{self.size}-{self.modified}"


def is_uri(name: object) -> bool:
    return isinstance(name, str) and _URI.match(name) is not None


def suffix_of(name: str) -> str:
    """As ``PurePosixPath(name).suffix``, which takes ten times as long; it is asked for every file."""
    stem, _, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix}" if stem and suffix else ""
