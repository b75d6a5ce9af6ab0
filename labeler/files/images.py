"""Read the sizes and pixels of images, from local files or from a store.

Whatever can be decoded becomes RGB, and every failure becomes an ``ImageError``. Any number of threads may read at
once.
"""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeler.errors import ImageError
from labeler.files.frames import FRAME_FORMATS, further_frames, seek_frame, split_frame
from labeler.files.image_config import ImageConfig, Intensity
from labeler.files.image_errors import one_cause
from labeler.files.image_formats import check_pixels, is_deep_colour, open_image, orientation, png_metadata_after_pixels
from labeler.files.pixels import TURNS, deep_to_rgb, to_rgb
from labeler.files.retries import retrying
from labeler.files.storage import locate, read_bytes, storage_of
from labeler.opencv import opencv

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath

SOURCE_KEY = "labeler:source"  # text in a PNG of a dataset: the digest of the image that it was converted from
BLOCK_BYTES = 2**20  # read at a time when a file is hashed
HEAD_BYTES = 2**16  # enough for the header and metadata of nearly every image
SMALL_FILE = 2**26  # bytes; larger files are not held in memory, and must suit the size of their image
MOST_PER_PIXEL = 32  # bytes in a file: four channels of 64 bits
_DEFAULT = ImageConfig()


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, turned upright.
        digest: ``content_digest`` of the file, and of the number of a further frame.
        scaled: from what its more than 8 bits per channel were scaled, such as ``12 bits``; empty for 8-bit images.
        further_frames: the pages or frames of the file besides this one.
        source: the digest of the image that this file of a dataset was converted from; empty for any other file.
    """

    pixels: npt.NDArray[np.uint8]
    digest: str
    scaled: str = ""
    further_frames: int = 0
    source: str = ""


@dataclass(slots=True)
class ImageFile:
    """An image whose size is read first and its pixels later. A small file in a store is downloaded only once.

    Attributes:
        frame: the number of a further page or frame, see ``labeler.files.frames``; 0 for the first.
    """

    path: AnyPath
    frame: int = 0
    config: ImageConfig = _DEFAULT
    _data: bytes = field(default=b"", init=False, repr=False)
    _most_bytes: int = field(default=0, init=False, repr=False)

    @classmethod
    def of(cls, root: AnyPath, image_id: str, config: ImageConfig = _DEFAULT) -> ImageFile:
        """The image with that id below ``root``."""
        name, frame = split_frame(image_id)
        return cls(root / name, frame, config)

    def size(self) -> tuple[int, int]:
        """(width, height) in pixels after EXIF orientation, from the header alone.

        Of a large file in a store only the beginning is read, so the orientation of a PNG that stores it behind the
        pixel data is missed.

        Raises:
            ImageError: the header cannot be read.
        """
        with one_cause():
            if storage_of(self.path).is_remote:
                head = read_bytes(self.path, 0, HEAD_BYTES)
                if len(head) != HEAD_BYTES:
                    self._data = head  # the whole file; also if the server ignores ranges
                try:
                    return self._header_size(io.BytesIO(head))
                except ImageError:
                    raise
                except Exception:  # the header of a TIFF may be at its end
                    if self._data:
                        raise
            return retrying(self._size_in_file)

    def frames(self) -> list[int]:
        """The numbers of the further frames of the file, see ``labeler.files.frames``.

        Raises:
            ImageError: the file cannot be read.
        """

        def read() -> list[int]:
            with storage_of(self.path).open(self.path, HEAD_BYTES) as file, self._open(file) as image:
                return further_frames(image)

        with one_cause():
            return retrying(read)

    def read(self) -> DecodedImage:
        """Decode the file. The format is detected from the content, not from the file name.

        Applies the EXIF orientation and puts transparent images on white; colour profiles are ignored. For more than 8
        bits per channel see ``ImageConfig.intensity``. Float images with all values in [0, 1] are scaled from that
        range; other float and 32-bit integer images from their minimum and maximum, and a constant image becomes 0.
        Values that are not finite become 0.

        Raises:
            ImageError: the cause in one line, without the path, which the caller knows.
        """
        with one_cause():
            data = self._data or (self._downloaded() if storage_of(self.path).is_remote else retrying(self._small_file))
            self._data = b""
            if data is None:
                return self._decode_in_place()
            digest, stream = content_digest(data, self.frame), io.BytesIO(data)
            del data
            return self._decode(stream, digest)

    def decode(self, data: bytes) -> DecodedImage:
        """As ``read``, of the content of the file."""
        with one_cause():
            return self._decode(io.BytesIO(data), content_digest(data, self.frame))

    def _downloaded(self) -> bytes:
        most = self._most_bytes
        data = read_bytes(self.path, 0, most + 1) if most else read_bytes(self.path)
        if most and len(data) > most:
            raise ImageError(f"the file has more than {most / 1e6:,.0f} MB, too many for an image of its size")
        return data

    def _small_file(self) -> bytes | None:
        """The content of a local file; None if the file is not to be held in memory."""
        with storage_of(self.path).open(self.path, BLOCK_BYTES) as file:
            if file.seek(0, os.SEEK_END) > SMALL_FILE:
                return None
            file.seek(0)
            return file.read()

    def _decode_in_place(self) -> DecodedImage:
        """Decode a large local file.

        Raises:
            ImageError: no image can be that large with its size in pixels; the file may be sparse.
        """
        width, height = self.size()
        with storage_of(self.path).open(self.path, BLOCK_BYTES) as file:
            bytes_in_file = file.seek(0, os.SEEK_END)
            if bytes_in_file > self._most_bytes > 0:
                raise ImageError(
                    f"the file has {bytes_in_file / 1e6:,.0f} MB, more than an image of {width} x {height} pixels can "
                    "take; it is damaged or no image"
                )
            file.seek(0)
            return self._decode(file, _digest_of(file, self.frame))

    def _open(self, file: BinaryIO) -> Image.Image:
        return open_image(file, self.config.max_pixels)

    def _size_in_file(self) -> tuple[int, int]:
        with storage_of(self.path).open(self.path, HEAD_BYTES) as file:
            return self._header_size(file)

    def _header_size(self, file: BinaryIO) -> tuple[int, int]:
        if not file.read(1):
            raise ImageError("the file is empty")
        file.seek(0)
        late = png_metadata_after_pixels(file)
        file.seek(0)
        with self._open(file) as image:
            seek_frame(image, self.frame)
            if late:
                image.load()
            tags = getattr(image, "tag_v2", None)  # Pillow versions differ in the size they report for a turned TIFF
            width, height = (tags[256], tags[257]) if tags else image.size
            # Files of several frames may be of any size.
            is_one = image.format == "PNG" or image.format not in FRAME_FORMATS
            self._most_bytes = SMALL_FILE + MOST_PER_PIXEL * width * height if is_one else 0
            return (height, width) if TURNS[orientation(image)][0] else (width, height)

    def _decode(self, stream: BinaryIO, digest: str) -> DecodedImage:
        intensity: Intensity = self.config.intensity or "auto"
        stream.seek(0)
        if not stream.read(1):
            raise ImageError("the file is empty")
        stream.seek(0)
        with self._open(stream) as image:
            further = [] if self.frame else further_frames(image)
            seek_frame(image, self.frame)
            check_pixels(image.size, self.config.max_pixels)
            is_deep = is_deep_colour(image)
            if is_deep and intensity != "full" and not self.frame and (deep := _deep_colours(stream)) is not None:
                pixels, scaled = deep_to_rgb(deep, intensity, orientation(image))
                if intensity != "auto" or scaled != "16 bits":
                    return DecodedImage(pixels, digest, scaled, len(further))
                stream.seek(0)
            image.load()
            turn = orientation(image)  # after loading: plugins that turn the image themselves remove the tag then
            source = str(image.info.get(SOURCE_KEY, ""))[:32] if image.format == "PNG" else ""
            stream.close()  # frees the encoded file while its pixels are converted
            pixels, scaled = to_rgb(image, intensity, turn)
            return DecodedImage(pixels, digest, scaled or "16 bits" * is_deep, len(further), source)


def decode_image(data: bytes, config: ImageConfig = _DEFAULT) -> DecodedImage:
    """The image in ``data``, as ``ImageFile.read``."""
    return ImageFile(Path(), config=config).decode(data)


def read_image(path: str | os.PathLike[str] | AnyPath) -> DecodedImage:
    """The image at a path or URI, as ``ImageFile.read``."""
    return ImageFile(locate(path)).read()


def content_digest(data: bytes, frame: int = 0) -> str:
    """The digest that records store: BLAKE2b of the file's bytes, as 32 hexadecimal digits.

    Args:
        frame: the number of a further frame, which gets a digest of its own.
    """
    return _finished(hashlib.blake2b(data, digest_size=16), frame)


def _finished(digest: hashlib.blake2b, frame: int) -> str:
    if frame:
        digest.update(f"#{frame}".encode())
    return digest.hexdigest()


def _digest_of(file: BinaryIO, frame: int = 0) -> str:
    result = hashlib.blake2b(digest_size=16)
    while block := file.read(BLOCK_BYTES):
        result.update(block)
    return _finished(result, frame)


def file_digest(path: AnyPath, frame: int = 0) -> str:
    """``content_digest`` of a file; a local file is read in blocks, so it may be larger than memory.

    Raises:
        OSError: it cannot be read.
    """
    storage = storage_of(path)
    if storage.is_remote:
        return content_digest(storage.read_bytes(path), frame)

    def digest() -> str:
        with storage.open(path, BLOCK_BYTES) as file:
            return _digest_of(file, frame)

    return retrying(digest)


def digest_at(path: AnyPath, frame: int = 0) -> str:
    """``content_digest`` of the file at ``path``; empty if it cannot be read."""
    try:
        return file_digest(path, frame)
    except OSError:
        return ""


def image_digest(root: AnyPath, image_id: str) -> str:
    """The digest that a record of the image would have now; empty if its file cannot be read."""
    name, frame = split_frame(image_id)
    return digest_at(root / name, frame)


def image_size(path: str | os.PathLike[str] | AnyPath) -> tuple[int, int]:
    """(width, height) of the image at a path or URI, as ``ImageFile.size``."""
    return ImageFile(locate(path)).size()


def _deep_colours(stream: BinaryIO) -> npt.NDArray[np.uint16] | None:
    """16-bit colours ``(H, W, 3)``, RGB, or ``(H, W, 4)`` with alpha, as stored; None if OpenCV does not read them."""
    cv2 = opencv()
    stream.seek(0)
    decoded = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3 or decoded.shape[2] not in (3, 4):
        return None
    channels: npt.NDArray[np.uint16] = decoded[:, :, [2, 1, 0, 3][: decoded.shape[2]]]
    return channels
