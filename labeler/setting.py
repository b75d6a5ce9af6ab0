"""Settings as fields of dataclasses: default, range, help text and flag stand in one place.

A field made by ``setting`` is a flag of the command line and a key of configuration files, a line of the help pages and
of the reference in the docs; ``check`` refuses values outside its range. Example::

    @dataclass(frozen=True)
    class Gate:
        accept_score: float = setting(0.3, "accept instances from this score", least=0, most=1)

        def __post_init__(self) -> None:
            check(self)

    Gate(accept_score=7)  # UsageError: --accept-score must be a number from 0 to 1, not 7
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal

from labeler.errors import UsageError
from labeler.sizes import shown

Kind = Literal[
    "switch", "whole number", "number", "number or range", "text", "choice", "list", "table", "arguments", "path"
]
METADATA_KEY = "setting"
_KINDS: Mapping[str, Kind] = {
    "bool": "switch",
    "int": "whole number",
    "int | str": "number or range",  # with choices, a whole number or one of them
    "float": "number",
    "str": "text",
    "tuple[str, ...]": "list",
    "Mapping[str, float]": "table",
    "Mapping[str, str]": "arguments",
}
_WHOLE = ("whole number", "number or range")


@dataclass(frozen=True, slots=True)
class Setting:
    """What users are told about one field, and what values it may have.

    Attributes:
        help: one phrase, without the default.
        group: title of the group of flags that it is listed in.
        metavar: stands for the value in help pages.
        names: the flags; by default ``--`` and the field's name.
        aliases: older flags, which go on working.
        choices: the words that are allowed; of a number, those that may stand in its place.
        unset: what no value means, where the default is None or a required field may be left out.
        positional: an argument without a flag.
        negatable: a switch that can also be switched off, with ``--no-…``.
        hidden: not listed anywhere.
        parse: makes the value from text, which is a path or URI.
        least, above, most, below: the range of a number.
    """

    help: str
    group: str = ""
    metavar: str = ""
    names: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    unset: str = ""
    positional: bool = False
    negatable: bool = False
    hidden: bool = False
    parse: Callable[[str], object] | None = None
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None


def setting(default: Any = MISSING, help: str = "", **attributes: Any) -> Any:
    """A dataclass field that is a setting, required without a ``default``.

    Args:
        attributes: those of ``Setting``.
    """
    metadata = {METADATA_KEY: Setting(help, **attributes)}
    if isinstance(default, (dict, list)):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def setting_of(each: Field[Any]) -> Setting | None:
    """The setting that a dataclass field is, if it is one."""
    found: Setting | None = each.metadata.get(METADATA_KEY)
    return found


def kind_of(each: Field[Any]) -> Kind:
    """What kind of value a setting has.

    Raises:
        TypeError: its annotation is of no known kind, and it has neither choices nor ``parse``.
    """
    about = each.metadata[METADATA_KEY]
    if about.parse is not None:
        return "path"
    kind = _KINDS.get(str(each.type).removesuffix(" | None"))
    if about.choices and kind in (None, "text"):
        return "choice"
    if about.choices and kind == "number or range":
        return "whole number"
    if kind is None:
        raise TypeError(f"{each.name}: a setting cannot be of type {each.type}")
    return kind


def flag_of(each: Field[Any]) -> str:
    """The flag of a setting, as messages name it."""
    about: Setting = each.metadata[METADATA_KEY]
    if about.positional:
        return about.metavar
    names = about.names or (f"--{each.name.replace('_', '-')}",)
    return next((name for name in names if name.startswith("--")), names[0])


def check(settings: Any, of: str = "") -> None:
    """Check every setting among the fields of a dataclass instance; None is allowed where the annotation says so.

    Args:
        of: the class that the settings are for, if they are for one.

    Raises:
        UsageError: a value is of the wrong type or out of its range; the message begins with its flag.
    """
    for each in fields(settings):
        if (about := setting_of(each)) is None or (kind := kind_of(each)) == "path":
            continue
        value = getattr(settings, each.name)
        if value is None and str(each.type).endswith("| None"):
            continue
        for name, part in _parts(kind, value):
            if not _holds(about, kind, part):
                what = f"{flag_of(each)} of {name or of!r}" if name or of else flag_of(each)
                raise UsageError(f"{what} must be {expected(about, kind)}, not {shown(part)}{_meant(about, part)}")


def _meant(about: Setting, value: Any) -> str:
    """A hint at the choice that comes near; empty if none does."""
    near = difflib.get_close_matches(value, about.choices, n=1) if isinstance(value, str) else ()
    return f"; did you mean {near[0]}?" if near else ""


def _parts(kind: Kind, value: Any) -> Iterable[tuple[str, Any]]:
    """(class, value) of what to check one by one; None where there is no list or table as there should be."""
    if kind == "list":
        return [("", part) for part in value] if isinstance(value, (tuple, list)) else [("", None)]
    if kind in ("table", "arguments"):
        return value.items() if isinstance(value, Mapping) else [("", None)]
    return [("", value)]


def _holds(about: Setting, kind: Kind, value: Any) -> bool:
    if kind == "switch":
        return isinstance(value, bool)
    if kind in ("text", "choice", "list", "arguments"):
        return isinstance(value, str) and (not about.choices or value in about.choices)
    if about.choices and value in about.choices:
        return True
    if kind == "number or range" and isinstance(value, str):
        ends = value.split("-")
        digits = all(end.isascii() and end.isdigit() for end in ends)
        return len(ends) == 2 and digits and all(_holds(about, "whole number", int(end)) for end in ends)
    if isinstance(value, bool) or not isinstance(value, Integral if kind in _WHOLE else Real):
        return False
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    return (
        math.isfinite(number)
        and (about.least is None or number >= about.least)
        and (about.above is None or number > about.above)
        and (about.most is None or number <= about.most)
        and (about.below is None or number < about.below)
    )


def expected(about: Setting, kind: Kind) -> str:
    if kind == "switch":
        return "true or false"
    if kind in ("text", "choice", "list", "arguments"):
        return f"one of {', '.join(about.choices)}" if about.choices else "text"
    noun = "a whole number" if kind in _WHOLE else "a number"
    space = ", " if limits(about).endswith("more") else " "
    range_too = ", or a range such as 2-8" if kind == "number or range" else ""
    return " or ".join([*about.choices, f"{noun}{space}{limits(about)}".rstrip()]) + range_too


def limits(about: Setting) -> str:
    """The range of a number in words, such as ``from 0 to 1``; empty without one."""
    least, above, most, below = map(_text, (about.least, about.above, about.most, about.below))
    upper = most or (below and f"below {below}")
    if least:
        return f"from {least} to {upper}" if upper else f"{least} or more"
    if above:
        return f"above {above} and at most {most}" if most else f"above {above}"
    return f"at most {most}" if most else ""


def _text(number: float | None) -> str:
    return "" if number is None else str(number) if isinstance(number, int) else f"{number:g}"
