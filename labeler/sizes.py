"""Checks for sizes and numbers from files, to be made before anything is allocated or rasterised.

``pycocotools`` checks nothing: it never returns for an image without pixels, and it crashes the process if a size or a
coordinate is far too large.
"""

from __future__ import annotations

import math

# pycocotools multiplies coordinates, which may be twice a side, by five in 32 bits.
MAX_SIDE = 1_000_000
# pycocotools counts pixels in 32 bits, and so does Label Studio, with four bytes per pixel. Pillow decodes only a fifth
# of this by default.
MAX_PIXELS = 1_000_000_000


def checked_size(width: object, height: object) -> tuple[int, int]:
    """(width, height) in pixels, as integers. Floats without a fraction are accepted.

    Raises:
        ValueError: one is not a whole number, is less than 1, or is too large.
    """
    wide, high = _whole(width), _whole(height)
    if wide is None or high is None or min(wide, high) < 1:
        raise ValueError(f"a size of {shown(width)} x {shown(height)}; width and height must be whole numbers above 0")
    if max(wide, high) > MAX_SIDE or wide * high > MAX_PIXELS:
        raise ValueError(
            f"a size of {shown(width)} x {shown(height)} pixels; at most {MAX_SIDE} per side and {MAX_PIXELS} in total "
            "are allowed"
        )
    return wide, high


def _whole(value: object) -> int | None:
    """``value`` as an integer, or None if it is not a whole number; a bool is not one."""
    if type(value) is float and value.is_integer():  # neither infinite nor NaN
        return int(value)
    return value if type(value) is int else None


def finite_number(value: object, what: str) -> float:
    """Check that a value from JSON is a number, and return it.

    Args:
        what: the value's name, for the message.

    Raises:
        ValueError: it is not a number, or is infinite, NaN or too large for a float.
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
    r"""Check that text from JSON can be written to a file, and return it.

    In JSON, ``"\ud800"`` (half a surrogate pair) is a valid string, which no encoding can write.

    Args:
        what: the value's name, for the message.

    Raises:
        ValueError: it is not valid Unicode.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} is not valid Unicode, but {shown(value)}") from None
    return value


def shown(value: object, limit: int = 40) -> str:
    """``repr`` of a value for a message: on one line, and cut to ``limit`` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python does not convert integers of more than 4300 digits
        return "a number of thousands of digits"
    except RecursionError:
        return "a value that is nested too deep"
    return text if len(text) <= limit else f"{text[:limit]}…"
