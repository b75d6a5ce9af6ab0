"""Takes one file out of a zip archive that anyone may have made. Nothing is unpacked onto the disk."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from labeler.errors import FormatError

MAX_UNPACKED = 2**30  # bytes of the unpacked file
MAX_RATIO = 200  # of unpacked to packed bytes; COCO and CVAT files reach about 30
SMALL = 2**24  # bytes that may be unpacked at any ratio
MAX_DIRECTORY = 2**26  # bytes of the list of files, of which zipfile makes ten times as many: half a million names
ENCRYPTED = 1  # a bit of ZipInfo.flag_bits
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")


def is_archive(source: Path | BinaryIO) -> bool:
    return zipfile.is_zipfile(source)


def read_only_entry(source: Path | BinaryIO, suffixes: Sequence[str]) -> bytes:
    """The one file in the archive whose name has one of ``suffixes``.

    Raises:
        FormatError: there is none or more than one; or the archive is damaged, encrypted, or built to unpack to far
            more than it holds.
        OSError: it cannot be read.
    """
    try:
        _check_directory(source)
        with zipfile.ZipFile(source) as archive:
            entries = [each for each in archive.infolist() if each.filename.lower().endswith(tuple(suffixes))]
            if len(entries) != 1:
                raise FormatError(f"{len(entries) or 'no'} XML or JSON files in it; unpack it and name one")
            _check_entry(entries[0])
            with archive.open(entries[0]) as file:
                data = file.read(MAX_UNPACKED + 1)  # the archive may state a smaller size
    except (zipfile.BadZipFile, RuntimeError, EOFError, zlib.error, struct.error, ValueError, OverflowError) as error:
        raise FormatError(f"a damaged zip archive ({str(error) or type(error).__name__})") from None
    except OSError as error:
        if error.errno and error.filename:
            raise
        raise FormatError(f"a damaged zip archive ({error.strerror or error})") from None
    return data


def _check_entry(entry: zipfile.ZipInfo) -> None:
    """Refuse a file that is encrypted, has a name outside the archive, or unpacks to too much."""
    name = f"{entry.filename!r:.100}"
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or parts[0].endswith(":"):
        raise FormatError(f"it names a file outside itself, {name}, so no annotation tool wrote it")
    if entry.flag_bits & ENCRYPTED:
        raise FormatError(f"{name} in it is encrypted; unpack it and name the file")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FormatError(f"{name} in it is compressed in a rare way; unpack it and name the file")
    if entry.file_size > MAX_UNPACKED:
        raise FormatError(f"{name} in it is larger than {MAX_UNPACKED >> 20} MiB; unpack it and name that")
    if entry.file_size > max(SMALL, MAX_RATIO * entry.compress_size):
        raise FormatError(f"{name} in it unpacks to more than {MAX_RATIO} times its size; unpack it and name that")


def _check_directory(source: Path | BinaryIO) -> None:
    """Refuse a list of files of absurd length before zipfile reads it."""
    if isinstance(source, Path):
        with open(source, "rb") as file:
            return _check_directory(file)
    size = source.seek(0, io.SEEK_END)
    source.seek(max(0, size - _END.size - 0xFFFF))  # a comment of up to 0xFFFF bytes comes last
    tail = source.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise zipfile.BadZipFile("it has no list of files")
    length = _END.unpack_from(tail, at)[5]
    at_64 = tail.rfind(b"PK\6\6", 0, at)
    if at_64 >= 0 and at - at_64 >= _END_64.size:
        length = max(length if length < 0xFFFFFFFF else 0, _END_64.unpack_from(tail, at_64)[8])
    if length > MAX_DIRECTORY:
        raise FormatError("a zip archive with a list of files of more than 64 MiB; unpack it and name the file")
    source.seek(0)
    return None
