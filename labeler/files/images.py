"""Read the sizes and pixels of images, from local files or from a store.

Whatever Pillow decodes is converted to RGB, and every failure becomes an ``ImageError``. No global setting of Pillow or
``warnings`` is changed, so any number of threads may read at once.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from labeler.errors import ImageError
from labeler.files.retries import retrying
from labeler.files.storage import locate, read_bytes, storage_of

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath

BLOCK_BYTES = 2**20  # read at a time when a file is hashed
HEAD_BYTES = 2**16  # enough for the header and metadata of nearly every image
# Once imported, Ultralytics replaces Image.open with a version that installs packages for files it cannot read.
_pillow_open = Image.open
# Documents, vector drawings and stubs: Pillow recognises them but cannot decode them, or starts another program.
NOT_RASTER = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})
# EXIF orientation -> how to turn the image upright: whether to transpose, then the step along rows and columns.
_TURNS = {1: (0, 1, 1), 2: (0, 1, -1), 3: (0, -1, -1), 4: (0, -1, 1)}
_TURNS |= {5: (1, 1, 1), 6: (1, 1, -1), 7: (1, -1, -1), 8: (1, -1, 1)}


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, turned upright.
        digest: ``content_digest`` of the file.
    """

    pixels: npt.NDArray[np.uint8]
    digest: str


@dataclass(slots=True)
class ImageFile:
    """An image whose size is read first and its pixels later. A small file in a store is downloaded only once."""

    path: AnyPath
    _data: bytes = field(default=b"", init=False, repr=False)

    def size(self) -> tuple[int, int]:
        """(width, height) in pixels after EXIF orientation, from the header alone.

        Of a large file in a store only the beginning is read, so the orientation of a PNG that stores it behind the
        pixel data is missed.

        Raises:
            ImageError: the header cannot be read.
        """
        with _one_cause():
            if storage_of(self.path).is_remote:
                head = read_bytes(self.path, 0, HEAD_BYTES)
                if len(head) != HEAD_BYTES:
                    self._data = head  # the whole file; also if the server ignores ranges
                try:
                    return _header_size(io.BytesIO(head))
                except Exception:  # the header of a TIFF may be at its end
                    if self._data:
                        raise
            return retrying(self._size_in_file)

    def _size_in_file(self) -> tuple[int, int]:
        with storage_of(self.path).open(self.path, HEAD_BYTES) as file:
            return _header_size(file)

    def read(self) -> DecodedImage:
        """Decode the file. The format is detected from the content, not from the file name.

        Takes the first frame, applies the EXIF orientation and puts transparent images on white; colour profiles are
        ignored. 16-bit grey is scaled from [0, 65535] (12-bit TIFF from [0, 4095]); Pillow reduces 16-bit colour to
        its high bytes. Float images with all values in [0, 1] are scaled from that range; other float and 32-bit
        integer images are scaled from their minimum and maximum, and a constant image becomes 0. Values that are not
        finite become 0.

        The size limit is Pillow's: 179 megapixels, twice ``PIL.Image.MAX_IMAGE_PIXELS``.

        Raises:
            ImageError: the cause in one line, without the path, which the caller knows.
        """
        with _one_cause():
            data, self._data = self._data or read_bytes(self.path), b""
            if not data:
                raise ImageError("the file is empty")
            with _open(io.BytesIO(data)) as image:
                image.load()
                turn = _orientation(image)  # after loading: plugins that turn the image themselves remove the tag then
                pixels = _turned(to_rgb(image), turn)
            return DecodedImage(pixels, content_digest(data))


def read_image(path: str | os.PathLike[str] | AnyPath) -> DecodedImage:
    """The image at a path or URI, as ``ImageFile.read``."""
    return ImageFile(locate(path)).read()


def content_digest(data: bytes) -> str:
    """The digest that records store: BLAKE2b of the file's bytes, as 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: AnyPath) -> str:
    """``content_digest`` of a file; a local file is read in blocks, so it may be larger than memory.

    Raises:
        OSError: it cannot be read.
    """
    storage = storage_of(path)
    if storage.is_remote:
        return content_digest(storage.read_bytes(path))

    def digest() -> str:
        result = hashlib.blake2b(digest_size=16)
        with storage.open(path, BLOCK_BYTES) as file:
            while block := file.read(BLOCK_BYTES):
                result.update(block)
        return result.hexdigest()

    return retrying(digest)


def digest_at(path: AnyPath) -> str:
    """``content_digest`` of the file at ``path``; empty if it cannot be read."""
    try:
        return file_digest(path)
    except OSError:
        return ""


def image_size(path: str | os.PathLike[str] | AnyPath) -> tuple[int, int]:
    """(width, height) of the image at a path or URI, as ``ImageFile.size``."""
    return ImageFile(locate(path)).size()


@contextmanager
def _one_cause() -> Iterator[None]:
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
        return "not an image in a format Pillow reads"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        limit = round(2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6)
        return f"too large: an image may have {limit} megapixels (twice PIL.Image.MAX_IMAGE_PIXELS)"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, IsADirectoryError):
        return "is a folder"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if "truncated" in text.lower():
        return f"the file is cut short ({text})"
    return f"cannot be decoded ({text or type(error).__name__})"


def _header_size(file: BinaryIO) -> tuple[int, int]:
    if not file.read(1):
        raise ImageError("the file is empty")
    file.seek(0)
    late = _png_metadata_after_pixels(file)
    with _open(file) as image:
        if late:
            image.load()
        tags = getattr(image, "tag_v2", None)  # Pillow versions differ in the size they report for a turned TIFF
        width, height = (tags[256], tags[257]) if tags else image.size
        return (height, width) if _TURNS[_orientation(image)][0] else (width, height)


def _open(file: BinaryIO) -> Image.Image:
    Image.init()
    return _pillow_open(file, formats=[name for name in Image.ID if name not in NOT_RASTER])


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation, 1 to 8; 1 if there is none or it is damaged."""
    try:
        # The base class method, since the one of the PNG plugin decodes the whole image first.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return int(value) if value in _TURNS else 1
    except Exception:
        return 1


def _png_metadata_after_pixels(file: BinaryIO) -> bool:
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


def _turned(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    transpose, rows, columns = _TURNS[orientation]
    pixels = pixels.swapaxes(0, 1) if transpose else pixels
    return np.ascontiguousarray(pixels[::rows, ::columns])


def to_rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 of a loaded image of any mode."""
    if image.mode[0] in "IF":
        return np.repeat(_to_8_bit(image)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def _to_8_bit(image: Image.Image) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 of a grey image of 16 or 32 bits."""
    values: npt.NDArray[Any] = np.asarray(image)
    # PNG and PPM have no 32-bit integers; some Pillow versions return their 16-bit images as mode "I".
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        top = 4095 if getattr(image, "tag_v2", {}).get(258) == (12,) else 65535
        return np.asarray((values.astype(np.uint32) * 255 + top // 2) // top, np.uint8)
    values = values.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    share = (np.where(finite, values, low) - low) / ((high - low) or 1.0)
    return np.asarray(np.rint(share * 255), np.uint8)
