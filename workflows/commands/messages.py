"""Text from elsewhere, such as file names, as one line that no terminal obeys and that tells no password."""

from __future__ import annotations

import logging
import sys
import unicodedata
from typing import Any

from labeler.files.credentials import without_secrets

_HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of surrogate pairs, separators of lines and paragraphs
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


def printable(text: str) -> str:
    r"""``text`` with everything escaped that moves the cursor, starts a line, or changes colour or reading direction.

    Passwords, keys and signatures in URIs are left out.

    >>> printable("a\x1b[31m\n.png")
    'a\\x1b[31m\\n.png'
    """
    text = without_secrets(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode() if _is_hidden(character) else character for character in text
    )


def _is_hidden(character: str) -> bool:
    return character in _DIRECTIONS or unicodedata.category(character) in _HIDDEN


def complain(message: object) -> None:
    """Print a line to the standard error."""
    print(f"labeler: {printable(str(message))}", file=sys.stderr)


class OneLine(logging.Formatter):
    """A log line; a traceback that follows it keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))

    def formatException(self, info: Any) -> str:
        return without_secrets(super().formatException(info))
