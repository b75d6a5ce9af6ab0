"""Which image formats are read, and how a file is opened: by its content, whatever its name.

These are Pillow's formats and HEIC. Files are opened without ``PIL.Image.open``: its limit on pixels is a global
setting, and Ultralytics, once imported, replaces it with a version that installs packages.
"""

from __future__ import annotations

import os
import struct
from functools import cache
from typing import BinaryIO

from PIL import ExifTags, Image, UnidentifiedImageError

from labeler.errors import ImageError
from labeler.files.image_config import MAX_MEGAPIXELS

# Documents, vector drawings and stubs: Pillow recognises them but cannot decode them, or starts another program.
NOT_RASTER = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})
_HEAD = 16  # bytes by which Pillow's plugins recognise a file


@cache
def formats() -> tuple[str, ...]:
    """The formats that are read, in the order in which they are tried."""
    import pillow_heif

    Image.init()
    pillow_heif.register_heif_opener()
    return tuple(name for name in Image.ID if name not in NOT_RASTER)


@cache
def image_extensions() -> frozenset[str]:
    """The file extensions of the formats that are read, in lower case, with the dot."""
    readable = {*formats(), "MPO"}  # a .mpo file is opened by the JPEG plugin
    return frozenset(ext for ext, name in Image.registered_extensions().items() if name in readable)


def open_image(file: BinaryIO, max_pixels: int = int(MAX_MEGAPIXELS * 1e6)) -> Image.Image:
    """The image in ``file``, whose pixels are not decoded yet.

    Raises:
        ImageError: it has more than ``max_pixels``.
        UnidentifiedImageError: it is in no format that is read.
    """
    head, is_heif = file.read(_HEAD), False
    for name in formats():
        factory, accept = Image.OPEN[name]
        if accept is not None and accept(head) in (False, None, ""):
            continue
        file.seek(0)
        try:
            image = factory(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):  # how plugins say that it is another format
            is_heif = is_heif or name == "HEIF"
            continue
        check_pixels(image.size, max_pixels)
        return image
    if is_heif:
        raise ImageError("a HEIC file that is damaged or cut short")
    raise UnidentifiedImageError


def check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Refuse images that are too large.

    Raises:
        ImageError: the size, the limit and the flag that raises it.
    """
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"too large: {width} x {height} pixels are more than {max_pixels / 1e6:g} megapixels; raise the limit with "
            "--max-megapixels"
        )


def orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation, 1 to 8; 1 if there is none or it is damaged."""
    try:
        # The base class method, since the one of the PNG plugin decodes the whole image first.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return int(value) if 1 <= value <= 8 else 1
    except Exception:
        return 1


def is_deep_colour(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has colours of 16 bits, which Pillow reduces to their high bytes."""
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))


def png_metadata_after_pixels(file: BinaryIO) -> bool:
    """Whether a PNG file has metadata, perhaps its orientation, behind the pixel data."""
    if file.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    behind = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if behind and kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            return True
        behind = behind or kind == b"IDAT"
        file.seek(length + 4, os.SEEK_CUR)
    return False
