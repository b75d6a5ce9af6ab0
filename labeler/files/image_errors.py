"""What went wrong when an image was read, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from labeler.errors import ImageError


@contextmanager
def one_cause() -> Iterator[None]:
    """Turn any failure to read or decode into an ``ImageError``."""
    try:
        yield
    except Exception as error:  # decoders raise anything: struct.error, zlib.error, IndexError, …
        raise ImageError(_cause(error)) from error


def _cause(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    if isinstance(error, ImageError):
        return text
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a format labeler reads"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"too large: Pillow decodes at most {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} megapixels of it"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if "truncated" in text.lower():
        return f"the file is cut short ({text})"
    return f"cannot be decoded ({text or type(error).__name__})"
