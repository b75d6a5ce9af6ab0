"""Converts files of earlier versions to the names of this version.

Serialized names (JSON keys, Parquet columns, keys of ``tuned.toml``) change only here. To change one, raise the number
of its kind of file in ``VERSIONS``, and add to ``STEPS`` how to convert the version before::

    VERSIONS["records"] = 2
    STEPS["records", 1] = lambda row: {"image_id": row.pop("image"), **row}

Parquet files state their version in the footer, and JSON and TOML files under the key ``version``. A file that states
none has version 1, the first. ``tests/data`` contains files of that version, which every command must read.
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
"""(kind, version) -> a function that converts content of that version to the next version."""


def check_version(kind: str, version: object, where: object) -> int:
    """``version`` as a number, if files of that version can be read.

    Args:
        where: the file, for the message.

    Raises:
        RunError: the version is newer than this labeler.
        FormatError: it is not a version number, or a conversion step is missing.
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
    """The version that a Parquet footer states: a number, or text if it is not one; None if it states none."""
    stated = (metadata or {}).get(b"labeler.schema_version", b"").decode(errors="replace")
    return int(stated) if re.fullmatch("[0-9]{1,9}", stated) else stated or None


def migrate(kind: str, content: dict[str, Any], where: object, version: object = None) -> dict[str, Any]:
    """``content``, converted to this version.

    Args:
        where: the file, for the message.
        version: the version of ``content``; None for the one that it states under ``version``.

    Raises:
        RunError, FormatError: see ``check_version``.
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
    """The JSON object in the file at ``path``, converted to this version.

    Raises:
        RunError: the file is newer than this labeler.
        FormatError: the file is damaged, or contains something else.
        OSError: the file cannot be read.
    """
    return migrate(kind, read_object(path), path)


def read_object(path: AnyPath) -> dict[str, Any]:
    """The JSON object in the file at ``path``, not converted. All its text is valid Unicode.

    Raises:
        FormatError: the file is damaged, or contains something else.
        OSError: the file cannot be read.
    """
    try:
        content = json.loads(read_bytes(path))
        json.dumps(content, ensure_ascii=False).encode()  # fails on half a surrogate pair, which JSON may contain
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path}: not a JSON object")
    return content
