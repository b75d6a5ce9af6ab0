"""Images: their sizes and pixels, from a file or from a store.

Reading turns whatever Pillow decodes into RGB, and every failure into one ``ImageError``. No setting of Pillow or of
``warnings`` is touched, so many threads may read at once.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from labeler.errors import ImageError
from labeler.files.retries import retrying
from labeler.files.storage import locate, read_bytes, refuse_special

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

HEAD_BYTES = 2**16  # the header and its metadata lie in so much of nearly every image
# Ultralytics, once imported, replaces Image.open by one that installs packages when it meets a file it cannot read.
_pillow_open = Image.open
# Documents, vector drawings and stubs: Pillow identifies these, but has no pixels for them or starts a program.
NOT_RASTER = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})
# EXIF orientation -> what sets the image upright: transpose, then the steps in which to take rows and columns.
_TURNS = {1: (0, 1, 1), 2: (0, 1, -1), 3: (0, -1, -1), 4: (0, -1, 1)}
_TURNS |= {5: (1, 1, 1), 6: (1, 1, -1), 7: (1, -1, -1), 8: (1, -1, 1)}


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image: ``pixels`` uint8 (H, W, 3) RGB, upright; ``digest`` 32 hexadecimal digits of the file's bytes."""

    pixels: npt.NDArray[np.uint8]
    digest: str


@dataclass(slots=True)
class ImageFile:
    """An image that is asked for its size first and for its pixels later; from a store, a small one comes but once."""

    path: AnyPath
    _data: bytes = field(default=b"", init=False, repr=False)

    def size(self) -> tuple[int, int]:
        """(width, height) in pixels after EXIF orientation, from the header alone.

        The header of a large file in a store is its beginning: a PNG that is said to be turned behind its pixels
        passes for upright there.

        Raises:
            ImageError: as ``read``, as far as the header tells.
        """
        with _one_cause():
            path = self.path
            if isinstance(path, Path):
                return retrying(lambda: _file_size(path))
            head = read_bytes(path, 0, HEAD_BYTES)
            if len(head) != HEAD_BYTES:
                self._data = head  # all of it, also from a server that knows no ranges
            try:
                return _header_size(io.BytesIO(head))
            except Exception:
                if self._data:
                    raise
            with path.fs.open(path.path, "rb", block_size=HEAD_BYTES) as file:  # a TIFF's header may lie at its end
                return _header_size(file)

    def read(self) -> DecodedImage:
        """Decode the file by its content, whatever its name says.

        The first frame is taken, EXIF orientation applied, transparency laid over white; colour profiles are ignored.
        16-bit grey is scaled from [0, 65535] (12-bit TIFF from [0, 4095]); Pillow itself cuts 16-bit colour to its
        high bytes. Floats that all lie in [0, 1] are scaled from that range; other floats and 32-bit integers are
        stretched from their minimum and maximum, a constant to 0. What is not finite becomes 0.

        The largest image is the one Pillow takes, 179 megapixels (twice ``PIL.Image.MAX_IMAGE_PIXELS``, the one knob).

        Raises:
            ImageError: the cause in one line; it names no path, since the caller knows which image it asked for.
        """
        with _one_cause():
            path = self.path
            if isinstance(path, Path):
                data = retrying(lambda: _file_bytes(path))
            else:
                data = self._data or read_bytes(path)
                self._data = b""
            if not data:
                raise ImageError("the file is empty")
            with _open(io.BytesIO(data)) as image:
                image.load()
                turn = _orientation(image)  # after loading: plugins that turn the image themselves then drop the tag
                pixels = _turned(to_rgb(image), turn)
            return DecodedImage(pixels, content_digest(data))


def read_image(place: str | os.PathLike[str] | AnyPath) -> DecodedImage:
    """The image at a path or URI, as ``ImageFile.read``."""
    return ImageFile(locate(place)).read()


def content_digest(data: bytes) -> str:
    """Of an image file, as records keep it."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """``content_digest`` of a file of any size.

    Raises:
        OSError: it cannot be read.
    """
    refuse_special(path)
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def digest_at(path: AnyPath) -> str:
    """``content_digest`` of the file at ``path``; empty if it cannot be read."""
    try:
        return retrying(lambda: file_digest(path)) if isinstance(path, Path) else content_digest(read_bytes(path))
    except OSError:
        return ""


def image_size(place: str | os.PathLike[str] | AnyPath) -> tuple[int, int]:
    """(width, height) of the image at a path or URI, as ``ImageFile.size``."""
    return ImageFile(locate(place)).size()


@contextmanager
def _one_cause() -> Iterator[None]:
    """Any failure to read or decode becomes an ``ImageError``."""
    try:
        yield
    except Exception as error:  # decoders raise whatever comes: struct.error, zlib.error, IndexError, …
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
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    if "truncated" in text.lower():
        return f"the file is cut short ({text})"
    return f"cannot be decoded ({text or type(error).__name__})"


def _check_is_file(path: Path) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ImageError("is a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size == 0:
        raise ImageError("the file is empty")


def _file_bytes(path: Path) -> bytes:
    _check_is_file(path)
    return path.read_bytes()


def _file_size(path: Path) -> tuple[int, int]:
    _check_is_file(path)
    with open(path, "rb") as file:
        return _header_size(file)


def _header_size(file: BinaryIO) -> tuple[int, int]:
    late = _png_metadata_after_pixels(file)
    with _open(file) as image:
        if late:
            image.load()
        tags = getattr(image, "tag_v2", None)  # Pillow's own size of a turned TIFF differs between versions
        width, height = (tags[256], tags[257]) if tags else image.size
        return (height, width) if _TURNS[_orientation(image)][0] else (width, height)


def _open(file: BinaryIO) -> Image.Image:
    Image.init()
    return _pillow_open(file, formats=[name for name in Image.ID if name not in NOT_RASTER])


def _orientation(image: Image.Image) -> int:
    """EXIF (or XMP) orientation, 1 to 8; 1 if there is none or it is damaged."""
    try:
        # The base method, since the PNG plugin's own decodes the whole image first.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
        return int(value) if value in _TURNS else 1
    except Exception:
        return 1


def _png_metadata_after_pixels(file: BinaryIO) -> bool:
    """Whether a PNG file says more, its orientation perhaps, behind the pixel data."""
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
    # PNG and PPM hold no 32-bit integers: there, some versions of Pillow give 16 bits as "I".
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
