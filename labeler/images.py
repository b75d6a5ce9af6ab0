"""Images: which there are, and their pixels.

Finding never opens an image; reading turns whatever Pillow decodes into RGB, and every failure into one ``ImageError``.
No setting of Pillow or of ``warnings`` is touched, so many threads may read at once.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from labeler.errors import ImageError, UsageError

logger = logging.getLogger(__name__)

# Ultralytics, once imported, replaces Image.open by one that installs packages when it meets a file it cannot read.
_pillow_open = Image.open
# Documents, vector drawings and stubs: Pillow identifies these, but has no pixels for them or starts a program.
_NOT_RASTER = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})
# EXIF orientation -> what sets the image upright: transpose, then the steps in which to take rows and columns.
_TURNS = {1: (0, 1, 1), 2: (0, 1, -1), 3: (0, -1, -1), 4: (0, -1, 1)}
_TURNS |= {5: (1, 1, 1), 6: (1, 1, -1), 7: (1, -1, -1), 8: (1, -1, 1)}


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The images of one input.

    Attributes:
        root: the input root, absolute.
        image_ids: POSIX paths below ``root``, sorted, each once.
    """

    root: Path
    image_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image: ``pixels`` uint8 (H, W, 3) RGB, upright; ``digest`` 32 hexadecimal digits of the file's bytes."""

    pixels: npt.NDArray[np.uint8]
    digest: str


def find_images(source: str | Path, exclude: Path | None = None) -> ImageSource:
    """The images that ``source`` names, found by extension; none is opened, and there may be none.

    A folder is searched once however many links lead to it. Hidden files and folders are left out, and so are, with a
    warning, folders that cannot be listed and names that are not UTF-8.

    Args:
        source: a folder, searched recursively, which is the root then; a file of any extension (root: its folder);
            a glob such as ``dir/**/*.jpg`` (root: the part before the first wildcard); or a ``.txt`` file of paths,
            one a line, relative to that file, ``#`` for comments (root: its folder, or the common parent if an entry
            lies elsewhere). Listed paths are kept even if nothing is there, so that the run can report them.
        exclude: a folder not to search, such as an output folder inside the input.

    Raises:
        UsageError: nothing is at ``source``, its root is ``exclude``, or the list cannot be read.
    """
    if not os.fspath(source):
        raise UsageError("no input given; name a folder, a file, a glob or a .txt file of paths")
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if os.path.isdir(path):
        return _image_source(path, _walk(path, exclude))
    if os.path.exists(path):
        return _listed(path) if path.suffix.lower() == ".txt" else _image_source(path.parent, [path.name])
    fixed = next((i for i, part in enumerate(path.parts) if set("*?[") & set(part)), 0)
    root, patterns = Path(*path.parts[:fixed]), path.parts[fixed:]
    if not fixed or not os.path.isdir(root):
        raise UsageError(f"{source}: no such file or folder")
    depth = None if "**" in patterns else len(patterns)
    return _image_source(root, (i for i in _walk(root, exclude, depth) if _matches(i.split("/"), patterns)))


def image_extensions() -> frozenset[str]:
    """The file extensions searched for: lower case, with the dot, every raster format this Pillow opens."""
    Image.init()
    # A .mpo file is opened by the JPEG plugin, so Pillow does not list MPO among the formats it opens.
    readable = (Image.OPEN.keys() | {"MPO"}) - _NOT_RASTER
    return frozenset(ext for ext, name in Image.registered_extensions().items() if name in readable)


def read_image(path: str | Path) -> DecodedImage:
    """Decode one file by its content, whatever its name says.

    The first frame is taken, EXIF orientation applied, transparency laid over white; colour profiles are ignored.
    16-bit grey is scaled from [0, 65535] (12-bit TIFF from [0, 4095]); Pillow itself cuts 16-bit colour to its high
    bytes. Floats that all lie in [0, 1] are scaled from that range; other floats and 32-bit integers are stretched
    from their minimum and maximum, a constant to 0. What is not finite becomes 0.

    The largest image is the one Pillow takes, 179 megapixels (twice ``PIL.Image.MAX_IMAGE_PIXELS``, the one knob).

    Raises:
        ImageError: the cause in one line; it names no path, since the caller knows which image it asked for.
    """
    with _one_cause():
        _check_is_file(path)
        data = Path(path).read_bytes()
        with _open(io.BytesIO(data)) as image:
            image.load()
            turn = _orientation(image)  # after loading: plugins that turn the image themselves then drop the tag
            pixels = _turned(to_rgb(image), turn)
        return DecodedImage(pixels, hashlib.blake2b(data, digest_size=16).hexdigest())


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, from the header alone.

    Raises:
        ImageError: as ``read_image``, as far as the header tells.
    """
    with _one_cause():
        _check_is_file(path)
        with open(path, "rb") as file:
            late = _png_metadata_after_pixels(file)
            with _open(file) as image:
                if late:
                    image.load()
                tags = getattr(image, "tag_v2", None)  # Pillow's own size of a turned TIFF differs between versions
                width, height = (tags[256], tags[257]) if tags else image.size
                return (height, width) if _TURNS[_orientation(image)][0] else (width, height)


def _image_source(root: Path, image_ids: Iterable[str]) -> ImageSource:
    found = set(image_ids)
    for image_id in [i for i in found if i.encode(errors="ignore").decode() != i]:
        logger.warning("%r: the name is not UTF-8; left out", os.fsencode(root / image_id))
        found.remove(image_id)
    return ImageSource(root, tuple(sorted(found)))


def _walk(root: Path, exclude: Path | None, depth: int | None = None) -> Iterator[str]:
    """Ids of the image files below ``root``, ``depth`` levels deep; real folders before links to them."""
    seen = {os.path.realpath(exclude)} if exclude is not None else set()
    if os.path.realpath(root) in seen:
        raise UsageError(f"{root}: input and output are the same folder; choose another output folder")
    extensions = image_extensions()
    folders, links = [""], list[str]()
    while folders or links:
        prefix = folders.pop() if folders else links.pop(0)
        here = os.path.join(root, prefix)
        if (real := os.path.realpath(here)) in seen:
            continue
        seen.add(real)
        try:
            with os.scandir(here) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            logger.warning("%s: cannot be listed (%s); left out", here, error.strerror)
            continue
        if prefix and os.path.exists(os.path.join(here, "run", "run.json")):
            continue  # an earlier output inside the input, with copies of the images
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():  # DirEntry.is_dir raises for a link to itself
                if depth is None or prefix.count("/") + 1 < depth:
                    (links if linked else folders).append(f"{prefix}{entry.name}/")
            elif os.path.splitext(entry.name)[1].lower() in extensions and (linked or entry.is_file()):
                yield prefix + entry.name


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether path ``parts`` match glob ``patterns``; ``**`` stands for any number of folders."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _listed(path: Path) -> ImageSource:
    try:
        text = path.read_text("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    if "\0" in text:
        raise UsageError(f"{path}: not a list of paths in UTF-8; save it as UTF-8 text, one path a line")
    lines = [os.path.expanduser(line.strip()) for line in text.split("\n")]
    entries = [Path(os.path.abspath(path.parent / line)) for line in lines if line and not line.startswith("#")]
    root = path.parent
    if not all(entry.is_relative_to(root) for entry in entries):
        try:
            root = Path(os.path.commonpath([entry.parent for entry in entries]))
        except ValueError as error:  # several drives
            raise UsageError(f"{path}: the paths share no folder; put the images on one drive") from error
    return _image_source(root, (entry.relative_to(root).as_posix() for entry in entries))


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


def _check_is_file(path: str | Path) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ImageError("is a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    if status.st_size == 0:
        raise ImageError("the file is empty")


def _open(file: BinaryIO) -> Image.Image:
    Image.init()
    return _pillow_open(file, formats=[name for name in Image.ID if name not in _NOT_RASTER])


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
