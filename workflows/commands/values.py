"""From the text behind a flag, or a key's value in a configuration file, to the value of an option."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from labeler.errors import UsageError
from labeler.setting import expected
from labeler.sizes import shown
from workflows.commands.options import Flag


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint at the word that was meant; ``otherwise`` if none comes near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def value_of(flag: Flag, texts: Sequence[str]) -> Any:
    """The value of ``flag`` by what was written behind it; of several, the last counts, or each names its class.

    Raises:
        UsageError: it cannot be meant.
    """
    if flag.kind == "table":
        return dict(_class_value(flag, text) for text in texts)
    if flag.kind == "arguments":
        return dict(_argument(flag, text) for text in texts)
    text = texts[-1]
    if flag.setting.parse is not None:
        return flag.setting.parse(text)
    if flag.kind == "list":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if text in flag.setting.choices:
        return text
    if flag.kind == "number or range" and "-" in text.strip("-"):
        return text  # its ends are checked with its settings
    if flag.kind in ("whole number", "number", "number or range"):
        try:
            return float(text) if flag.kind == "number" else int(text)
        except ValueError:
            raise UsageError(f"{flag.title} must be {expected(flag.setting, flag.kind)}, not {shown(text)}") from None
    return text


def _class_value(flag: Flag, text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        if name.strip():
            return name.strip(), float(value)
    except ValueError:
        pass
    raise UsageError(f"{flag.title}: expected NAME=X with a number X, not {shown(text)}")


def _argument(flag: Flag, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals and name.strip().isidentifier():
        return name.strip(), value.strip()
    raise UsageError(f"{flag.title}: expected KEY=VALUE, not {shown(text)}")
