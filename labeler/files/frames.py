"""Further pages and frames of image files, as images of their own.

The first frame of ``scan.tif`` has the id ``scan.tif``; page 3 has the id ``scan.tif#0003``. Multi-page TIFF, animated
GIF, WebP, PNG and AVIF, and image sequences in HEIC files have frames. The further pictures of an MPO file are the same
scene from other lenses, and smaller versions in a TIFF (pyramids, thumbnails, masks) are no pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image

from labeler.errors import ImageError

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath

FRAME_FORMATS = frozenset({"TIFF", "GIF", "WEBP", "PNG", "AVIF", "HEIF"})
FRAME_EXTENSIONS = frozenset(
    {".tif", ".tiff", ".gif", ".webp", ".png", ".apng", ".avif", ".avifs"}
    | {".heic", ".heics", ".heif", ".heifs", ".hif"}
)
_FRAME_ID = re.compile(r"(.+)#([0-9]{4,9})", re.DOTALL)
_SUBFILE_TYPE = 254  # TIFF tag; bit 0: a smaller version of another page, bit 2: its transparency mask


def split_frame(image_id: str) -> tuple[str, int]:
    """(file, number) of an image id; the number counts from 1, and 0 stands for the frame that a viewer shows."""
    match = _FRAME_ID.fullmatch(image_id)
    if match and PurePosixPath(match[1]).suffix.lower() in FRAME_EXTENSIONS:
        return match[1], int(match[2])
    return image_id, 0


def file_of(image_id: str) -> str:
    """The file that holds the image, as an id without a frame."""
    return split_frame(image_id)[0]


def frame_id(image_id: str, number: int) -> str:
    return f"{image_id}#{number:04d}"


def further_frames(image: Image.Image) -> list[int]:
    """The numbers of the frames besides the one that ``image`` was opened at; empty for a file that has one."""
    if image.format not in FRAME_FORMATS:
        return []
    first = image.tell()
    try:
        count = getattr(image, "n_frames", 1)
        others = [index for index in range(count) if index != first]
        if image.format == "TIFF":
            others = [index for index in others if _is_page(image, index)]
    except Exception:  # a damaged file has the frames that can be read, and the first one decides whether it is usable
        others = []
    with suppress(Exception):
        image.seek(first)
    return [index + 1 for index in others]


def _is_page(image: Image.Image, index: int) -> bool:
    image.seek(index)
    tags = getattr(image, "tag_v2", {})
    return not int(tags.get(_SUBFILE_TYPE, 0)) & 0b101


def seek_frame(image: Image.Image, number: int) -> None:
    """Move ``image`` to the frame with that number; 0 leaves it where it is.

    Raises:
        ImageError: there is no such frame.
    """
    if not number:
        return
    try:
        image.seek(number - 1)
    except EOFError:
        raise ImageError(f"the file has no frame {number}") from None


def with_frames(image_ids: Iterable[str], frames: Iterable[list[int]]) -> Iterator[str]:
    """Each image id, followed by those of its further frames."""
    for image_id, numbers in zip(image_ids, frames, strict=True):
        yield image_id
        yield from (frame_id(image_id, number) for number in numbers)


def file_path(root: AnyPath, image_id: str) -> AnyPath:
    """The file below ``root`` that holds the image."""
    return root / file_of(image_id)
