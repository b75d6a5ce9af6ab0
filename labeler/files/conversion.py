"""Images of a dataset that were converted to PNG, since trainers cannot read the originals.

The PNG says which image it shows: a text chunk holds the digest of the original, so that an unchanged image is not
converted again.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from labeler.files.images import SOURCE_KEY, DecodedImage
from labeler.files.local import naming
from labeler.files.storage import storage_of

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath

_HEAD = 256  # bytes; the chunk is the first one behind the header
_SOURCE = re.compile(rb"\A\x89PNG.{29}....tEXt" + SOURCE_KEY.encode() + rb"\0([0-9a-f]{32})", re.DOTALL)


def write_png(path: Path, image: DecodedImage) -> None:
    """Write ``image`` as a PNG that names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), open(path, "wb") as file:
        _save(file, image)


def png_bytes(image: DecodedImage) -> bytes:
    """``image`` as a PNG that names it."""
    data = io.BytesIO()
    _save(data, image)
    return data.getvalue()


def _save(file: BinaryIO, image: DecodedImage) -> None:
    text = PngInfo()
    text.add_text(SOURCE_KEY, image.digest)
    Image.fromarray(image.pixels).save(file, "PNG", pnginfo=text, compress_level=3)


def source_at(path: AnyPath) -> str:
    """The digest of the image that the file at ``path`` was converted from; empty if it was not, or cannot be read."""
    try:
        with storage_of(path).open(path, _HEAD) as file:
            match = _SOURCE.match(file.read(_HEAD))
    except OSError:
        return ""
    return match[1].decode() if match else ""
