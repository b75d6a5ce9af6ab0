"""Files of earlier versions, read with the names of this one: the one table of what was renamed.

A serialized name (a JSON key, a Parquet column, a key of ``tuned.toml``) changes only here. Raise the kind's number in
``VERSIONS`` and add the step from the version before to ``STEPS``::

    VERSIONS["records"] = 2
    STEPS["records", 1] = lambda row: {"image_id": row.pop("image"), **row}

Record files state their version in the footer, JSON and TOML under ``version``; what states none is of version 1, the
first. ``tests/data`` holds files of that version, which every command must open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from labeler.errors import FormatError, RunError
from labeler.files.storage import read_bytes
from labeler.sizes import shown

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

VERSIONS = {
    "run.json": 1,
    "images.parquet": 1,  # a row
    "records": 1,  # a row
    "classes.json": 1,
    "decisions": 1,  # a row of decisions.jsonl, and of any file that review --apply reads
    "review set": 1,  # run/sent/*.json
    "evaluation.json": 1,
    "config": 1,  # TOML for --config, such as tuned.toml
}
STEPS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By kind and the version a step starts from: content of that version to content of the next."""


def check_version(kind: str, version: object, where: object) -> int:
    """``version`` as a number, if files of it can be read.

    Args:
        where: the file, to be named.

    Raises:
        RunError: it is newer than this labeler.
        FormatError: it is no version, or so old that no step leads on from it.
    """
    if type(version) is not int:
        raise FormatError(f"{where}: {shown(version)} is not a version number")
    if version > VERSIONS[kind]:
        raise RunError(
            f"{where} was written by a newer labeler (version {shown(version)}, this one reads up to "
            f"{VERSIONS[kind]}); update labeler"
        )
    for number in range(version, VERSIONS[kind]):
        if (kind, number) not in STEPS:
            raise FormatError(f"{where}: files of version {shown(version)} cannot be read")
    return version


def footer_version(metadata: Mapping[bytes, bytes] | None) -> object:
    """The version that a Parquet footer states: a number, or text that is none; None where nothing is stated."""
    stated = (metadata or {}).get(b"labeler.schema_version", b"").decode(errors="replace")
    return int(stated) if re.fullmatch("[0-9]{1,9}", stated) else stated or None


def migrate(kind: str, content: dict[str, Any], where: object, version: object = None) -> dict[str, Any]:
    """``content`` with the names of this version.

    Args:
        where: the file, to be named.
        version: of the content; None for what it states itself under ``version``.

    Raises:
        RunError, FormatError: as ``check_version``.
    """
    if version is None:
        version = content.get("version", 1)
    first, last = check_version(kind, version, where), VERSIONS[kind]
    try:
        for number in range(first, last):
            content = STEPS[kind, number](content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{where}: not what version {first} looks like ({error!r})") from error
    return {**content, "version": last} if "version" in content else content


def read_json(kind: str, path: AnyPath) -> dict[str, Any]:
    """The JSON object in the file at ``path``, with the names of this version.

    Raises:
        RunError: it is newer than this labeler.
        FormatError: it is not such a file.
        OSError: it cannot be read.
    """
    return migrate(kind, read_object(path), path)


def read_object(path: AnyPath) -> dict[str, Any]:
    """The JSON object in the file at ``path``, as it is there; all its text is Unicode.

    Raises:
        FormatError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(read_bytes(path))
        json.dumps(content, ensure_ascii=False).encode()  # half of a surrogate pair could not be written anywhere
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path}: not a JSON object")
    return content
