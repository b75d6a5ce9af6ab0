"""Configuration files: every flag of a command can be a key of a TOML file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labeler.errors import UsageError
from labeler.migrations import migrate
from labeler.sizes import shown
from ontologies.documents import MAX_BYTES, DocumentError, parse_toml, read_at_most
from workflows.commands.options import Flag
from workflows.commands.values import did_you_mean, value_of


def read_config(path: str, command: str, flags: Sequence[Flag]) -> dict[str, Any]:
    """The values that the file at ``path`` gives to the flags of ``command``, by name.

    Raises:
        UsageError: the file cannot be read, a key is no flag of the command, or a value cannot be meant.
    """
    content = migrate("config", _toml(path), path)
    content.pop("version", None)
    on = {key: flag for flag in flags for key in flag.keys}
    off = {name[2:]: flag for flag in flags for name in flag.off_names}
    of_classes = [flag for flag in flags if flag.kind == "table"]
    if of_classes:
        content = dict(_flattened(content, of_classes, path))
    given: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("_", "-")
        flag = on.get(name) or off.get(name)
        if flag is None:
            hint = did_you_mean(name, on, f"see `labeler {command} --help`")
            raise UsageError(f"{path}: unknown key {shown(key)}; {hint}")
        if flag.kind == "arguments":
            given[flag.name] = _arguments(key, value, path)
            continue
        _check(flag, key, value, path)
        if isinstance(value, bool):
            if value or flag.off_names:
                given[flag.name] = value != (name in off)
            continue
        try:
            given[flag.name] = value_of(flag, _texts(value, flag))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    return given


def _toml(path: str) -> dict[str, Any]:
    try:
        return parse_toml(read_at_most(Path(path), MAX_BYTES["TOML"]))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except DocumentError as error:
        raise UsageError(f"{path}: {error}") from None


def _flattened(content: Mapping[str, Any], flags: Sequence[Flag], path: str) -> Iterator[tuple[str, Any]]:
    """``[class."dog"]`` tables as ``class-accept-score`` and so on, each a table of classes, as the flags are.

    Raises:
        UsageError: what stands under ``class`` is of another shape.
    """
    of_classes = content.get("class", {})
    if not isinstance(of_classes, dict) or not all(isinstance(own, dict) for own in of_classes.values()):
        raise UsageError(f'{path}: thresholds of a class stand in a table of their own, such as [class."dog"]')
    flat = {key: value for key, value in content.items() if key != "class"}
    known = {key.removeprefix("class-"): key for flag in flags for key in flag.keys}
    for class_name, own in of_classes.items():
        for key, value in own.items():
            if (flag := known.get(key.replace("_", "-"))) is None:
                raise UsageError(f"{path}: unknown key {key!r} of class {class_name!r}; known keys: {', '.join(known)}")
            flat[flag] = {**flat.get(flag, {}), class_name: value}
    yield from flat.items()


def _arguments(key: str, value: object, path: str) -> dict[str, str]:
    """A table of arguments, with each value as it would be written on the command line.

    Raises:
        UsageError: it is no table of words, numbers, true or false, and lists.
    """
    try:
        if isinstance(value, dict):
            return {name: each if isinstance(each, str) else json.dumps(each) for name, each in value.items()}
    except TypeError:
        pass
    raise UsageError(f"{path}: key {key!r} must be a table of KEY = VALUE, not {shown(value)}")


def _check(flag: Flag, key: str, value: object, path: str) -> None:
    """Check that ``value`` has the shape that ``flag`` takes.

    Raises:
        UsageError: it has not, or it is a number larger than TOML knows.
    """
    if isinstance(value, bool) != (flag.kind == "switch"):
        raise UsageError(f"{path}: key {key!r} must {'not ' if isinstance(value, bool) else ''}be true or false")
    is_table = flag.kind == "table"
    if is_table and not isinstance(value, (dict, str)):
        raise UsageError(f"{path}: key {key!r} must be NAME=X, or a table of NAME = X, not {shown(value)}")
    items = value if isinstance(value, list) else value.values() if is_table and isinstance(value, dict) else ()
    for item in items or [value]:
        if not isinstance(item, (str, int, float)):
            if is_table and item == {}:
                continue
            raise UsageError(f"{path}: key {key!r} must be a word, a number, true or false, or a list")
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise UsageError(f"{path}: key {key!r} cannot be {shown(item)}, which is no integer of 64 bits")


def _texts(value: Any, flag: Flag) -> list[str]:
    """``value`` as it would be written behind ``flag``."""
    if isinstance(value, dict):
        return [f"{name}={number}" for name, number in value.items()]
    return [",".join(map(str, value)) if isinstance(value, list) else str(value)]
