"""Sizes and numbers from files, checked before anything is allocated or rasterised.

``pycocotools`` trusts what it is given: it never returns for an image of no pixels, and crashes the process where a
size or a coordinate is absurd. So every reader checks here first.
"""

from __future__ import annotations

import math

# No image has a longer side, and below it, five times twice a side (what pycocotools computes with) fits 32 bits.
MAX_SIDE = 1_000_000
# Five times what Pillow decodes by default. pycocotools counts pixels in 32 bits, and so does Label Studio, four each.
MAX_PIXELS = 1_000_000_000


def checked_size(width: object, height: object) -> tuple[int, int]:
    """(width, height) in pixels, as integers; a float that is a whole number counts as one.

    Raises:
        ValueError: one is no whole number, less than 1, or too large.
    """
    wide, high = _whole(width), _whole(height)
    if wide is None or high is None or min(wide, high) < 1:
        raise ValueError(f"a size of {shown(width)} x {shown(height)}; width and height must be whole numbers above 0")
    if max(wide, high) > MAX_SIDE or wide * high > MAX_PIXELS:
        raise ValueError(
            f"a size of {shown(width)} x {shown(height)} pixels; an image may have {MAX_SIDE} a side and {MAX_PIXELS} "
            "in all"
        )
    return wide, high


def _whole(value: object) -> int | None:
    """The whole number that ``value`` is, if any; a bool is none."""
    if type(value) is float and value.is_integer():  # neither infinite nor NaN
        return int(value)
    return value if type(value) is int else None


def finite_number(value: object, what: str) -> float:
    """A number as JSON holds it.

    Args:
        what: the value's name, for the message.

    Raises:
        ValueError: it is none, or it is infinite, NaN or too large for a float.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError(f"{what} must be a finite number, not {shown(value)}")


def unicode_text(value: str, what: str) -> str:
    """``value``, which JSON may have made of half of a surrogate pair: nothing could write it anywhere.

    Args:
        what: the value's name, for the message.

    Raises:
        ValueError: it is not Unicode.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not valid Unicode, but {shown(value)}") from None
    return value


def shown(value: object, limit: int = 40) -> str:
    """A value in a message, on one line and cut to ``limit`` characters."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a number of thousands of digits"
    except RecursionError:
        return "what is nested too deep"
    return text if len(text) <= limit else f"{text[:limit]}…"
