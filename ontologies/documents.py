"""Parses JSON, TOML, YAML and XML that anyone may have written: every such text is parsed here.

The parsers of Python and PyYAML accept content that later hangs or crashes whoever walks over it: values nested
thousands deep, or YAML aliases that stand for millions of values. They also keep the last of two equal keys and drop
the first without a word. All of that is refused, as a ``DocumentError`` of one line.
"""

from __future__ import annotations

import codecs
import json
import re
import tomllib
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

MAX_DEPTH = 100  # of nested lists and tables; the deepest format that is read has about ten
MAX_BYTES = {"TOML": 2**22, "YAML": 2**21}  # their parsers are written in Python and take seconds per megabyte
MAX_DIGITS = 4300  # of an integer; Python converts no longer ones
EXPANSION = 10  # how many values YAML may stand for, per character
_MARKS = (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")

_DOTTED = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}""")


class DocumentError(ValueError):
    """A text is not valid JSON, TOML, YAML or XML, or it is built to harm who reads it. The message names no file."""


def parse_json(data: bytes | str) -> Any:
    """The content of a JSON text.

    Raises:
        DocumentError: it is not valid; see the top of this file for what else is refused.
    """
    return _parsed("JSON", data, lambda text: json.loads(text, object_pairs_hook=_unique))


def parse_toml(data: bytes | str) -> dict[str, Any]:
    """The content of a TOML text.

    Raises:
        DocumentError: as ``parse_json``.
    """
    content: dict[str, Any] = _parsed("TOML", data, _toml)
    return content


def parse_yaml(data: bytes | str) -> Any:
    """The content of a YAML text with one document. Only plain values are made, never objects of classes.

    Raises:
        DocumentError: as ``parse_json``.
    """
    return _parsed("YAML", data, lambda text: yaml.load(text, Loader=_Loader))


def parse_xml(data: bytes | str) -> ElementTree.Element:
    """The root element of an XML text.

    Raises:
        DocumentError: it is not valid, or it has a document type.
    """
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_Tree()))
    except (ElementTree.ParseError, LookupError, ValueError) as error:  # an unknown encoding, or one of many bytes
        raise DocumentError(f"not valid XML: {_line(error)}") from None


class _Tree(ElementTree.TreeBuilder):
    """Refuses a document type, the only place for entities: a few that contain each other stand for gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type")


def decoded(data: bytes | str) -> str:
    """Text in UTF-8, or in UTF-16 with a byte order mark, as Windows PowerShell writes it.

    Raises:
        DocumentError: it is neither.
    """
    if isinstance(data, str):
        return data.removeprefix("\ufeff")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise DocumentError(f"not {name} text (byte {error.start}); save it as UTF-8") from None


def read_at_most(path: Path, most: int) -> bytes:
    """The content of a local file, a device or a pipe.

    Raises:
        DocumentError: it is larger than ``most`` bytes.
        OSError: it cannot be read.
    """
    data = bytearray()
    with open(path, "rb") as file:
        while block := file.read(2**20):  # Python reserves memory for all that it is asked to read
            data += block
            if len(data) > most:
                raise DocumentError(f"larger than {most >> 20} MiB")
    return bytes(data)


def _parsed(kind: str, data: bytes | str, parse: Callable[[str], Any]) -> Any:
    if len(data) > (most := MAX_BYTES.get(kind, len(data))):
        raise DocumentError(f"larger than {most >> 20} MiB, which no {kind} file that is read here needs")
    text = decoded(data)
    try:
        content = parse(text)
    except RecursionError:
        raise DocumentError(f"not valid {kind}: nested too deep") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (at line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise DocumentError(f"not valid YAML: {_line(error.problem or error.context)}{where}") from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        # PyYAML raises any of these for a value that is not what its tag says, such as !!bool x.
        raise DocumentError(f"not valid {kind}: {_line(error)}") from None
    _check_extent(content, kind, len(text))
    return content


def _toml(text: str) -> dict[str, Any]:
    if _DOTTED.search(text):  # the parser takes time with the square of a key's parts
        raise RecursionError
    return tomllib.loads(text)


def _line(error: object) -> str:
    text = " ".join(str(error).split())
    if text.startswith("Exceeds the limit"):  # Python's advice that follows is for programmers
        return f"a number of more than {MAX_DIGITS} digits"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _check_extent(content: Any, kind: str, length: int) -> None:
    """Refuse nesting beyond ``MAX_DEPTH``, and more values than a text of ``length`` characters can spell out."""
    left = EXPANSION * (length + 1)
    level = [content] if type(content) in _NESTED else []
    for _ in range(MAX_DEPTH):
        if not level:
            return
        inner: list[Any] = []
        for each in level:
            left -= len(each)
            if left < 0:
                raise DocumentError(f"not valid {kind}: its aliases stand for far more values than the file holds")
            inner += [value for value in (each.values() if isinstance(each, dict) else each) if type(value) in _NESTED]
        level = inner
    raise DocumentError(f"not valid {kind}: nested too deep")


_NESTED = (dict, list, tuple)  # YAML's !!pairs makes tuples


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in content if keys.count(key) > 1)!r:.60} is given twice")
    return content


class _Loader(yaml.SafeLoader):
    """``SafeLoader`` that refuses repeated keys, and merge keys and numbers that take forever."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._left = EXPANSION * (len(text) + 1)  # keys that merge keys may still copy

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                continue
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(merged, yaml.MappingNode):
                    self.flatten_mapping(merged)
                    self._left -= len(merged.value)
                if self._left < 0:
                    raise yaml.constructor.ConstructorError(None, None, "it merges too many keys", node.start_mark)
        super().flatten_mapping(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                problem = f"the key {key.value!r:.60} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        self._check_digits(node)
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        self._check_digits(node)
        return float(super().construct_yaml_float(node))

    def _check_digits(self, node: yaml.ScalarNode) -> None:
        if len(str(node.value)) > MAX_DIGITS:  # 1:1:1:… is a number in base 60, whose cost grows with its square
            problem = f"a number of more than {MAX_DIGITS} digits"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)
