"""Images of a dataset that were converted to PNG, since trainers cannot read the originals.

The PNG says which image it shows: a text chunk holds the digest of the original, and how more than 8 bits per channel
became 8 if that is not ``auto``. So an unchanged image is not converted again.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from labeler.files.image_config import ImageConfig
from labeler.files.images import SOURCE_KEY, DecodedImage
from labeler.files.local import naming
from labeler.files.storage import storage_of

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath

_HEAD = 256  # bytes; the chunk is the first one behind the header
_CHUNK = re.compile(rb"\A\x89PNG.{29}(....)tEXt" + SOURCE_KEY.encode() + rb"\0", re.DOTALL)
_SOURCE = re.compile(r"([0-9a-f]{32})(?: ([a-z]+))?")


class Source(NamedTuple):
    """What a PNG was converted from.

    Attributes:
        digest: of the image; empty if the PNG was not converted.
        intensity: as the image was read.
    """

    digest: str
    intensity: str = "auto"

    @classmethod
    def of(cls, digest: str, reading: ImageConfig) -> Source:
        return cls(digest, reading.intensity or "auto")

    def __str__(self) -> str:
        return self.digest if self.intensity == "auto" else f"{self.digest} {self.intensity}"


NO_SOURCE = Source("")


def write_png(path: Path, image: DecodedImage, reading: ImageConfig) -> None:
    """Write ``image``, which was read like that, as a PNG that names it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), open(path, "wb") as file:
        _save(file, image, reading)


def png_bytes(image: DecodedImage, reading: ImageConfig) -> bytes:
    """As ``write_png``."""
    data = io.BytesIO()
    _save(data, image, reading)
    return data.getvalue()


def _save(file: BinaryIO, image: DecodedImage, reading: ImageConfig) -> None:
    text = PngInfo()
    text.add_text(SOURCE_KEY, str(Source.of(image.digest, reading)))
    Image.fromarray(image.pixels).save(file, "PNG", pnginfo=text, compress_level=3)


def source_at(path: AnyPath) -> Source:
    """What the file at ``path`` was converted from; with an empty digest if it was not, or cannot be read."""
    storage = storage_of(path)
    try:
        if storage.is_remote:
            head = storage.read_bytes(path, 0, _HEAD)
        else:
            with storage.open(path, _HEAD) as file:
                head = file.read(_HEAD)
    except OSError:
        return NO_SOURCE
    if (chunk := _CHUNK.match(head)) is None:
        return NO_SOURCE
    length = int.from_bytes(chunk[1], "big") - len(SOURCE_KEY) - 1
    text = _SOURCE.fullmatch(head[chunk.end() : chunk.end() + max(length, 0)].decode("latin-1"))
    return Source(text[1], text[2] or "auto") if text else NO_SOURCE
