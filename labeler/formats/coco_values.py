"""Single values of COCO files as different tools write them: ids, sizes, flags and boxes."""

from __future__ import annotations

import re
from typing import Any

from labeler.sizes import finite_number, shown

BoxXyxy = tuple[float, float, float, float]
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_FLAGS = {"0": False, "false": False, "no": False, "": False, "1": True, "true": True, "yes": True}


def identity(value: object, what: str) -> int | str:
    """An id, so that ``7``, ``7.0`` and ``"7"`` are the same; other text is an id as it is.

    Args:
        what: the key, for the message.

    Raises:
        ValueError: it is neither a whole number nor text.
    """
    if isinstance(value, str) and value.strip():
        text = value.strip()
        return int(text) if _WHOLE.fullmatch(text) else text
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"'{what}' is {shown(value)}, which is no id")


def order(identifier: int | str) -> tuple[bool, int, str]:
    """A key to sort ids by: numbers first, then text."""
    return (False, identifier, "") if isinstance(identifier, int) else (True, 0, identifier)


def flag(value: object, what: str) -> bool:
    """A yes or no: a bool, 0 or 1, one of these as text, or nothing, which is no.

    Raises:
        ValueError: it is something else.
    """
    text = "" if value is None else str(value).strip().casefold().removesuffix(".0")
    if isinstance(value, (dict, list)) or text not in _FLAGS:
        raise ValueError(f"'{what}' is {shown(value)}, neither 0 nor 1")
    return _FLAGS[text]


def number(value: object, what: str) -> float:
    """A finite number, which may be written as text.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"{what} must be a finite number, not {shown(value)}") from None
    return finite_number(value, what)


def whole(value: object) -> object:
    """A number written as text, or as a float without a fraction, as an int; anything else as it is."""
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip().removesuffix(".0")):
        return int(value.strip().removesuffix(".0"))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def box_xyxy(bbox: Any) -> BoxXyxy:
    """``[x, y, width, height]`` as x1, y1, x2, y2.

    Raises:
        ValueError: it is not a list of four finite numbers, or a side is negative.
    """
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"'bbox' is {shown(bbox)}, not x, y, width and height")
    x, y, width, height = (number(side, "a side of 'bbox'") for side in bbox)
    if width < 0 or height < 0:
        raise ValueError(f"'bbox' is {shown(bbox)}, with a negative side")
    return x, y, x + width, y + height


def reason(error: Exception) -> str:
    """What is wrong with an entry, in one line."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
