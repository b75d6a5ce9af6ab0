"""What decides which tools read an image: format, size, orientation and bits per channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

from labeler.files.image_formats import is_deep_colour, open_image, orientation

# Bits per channel: 8 or fewer, 16 of a grey image, 16 of a colour image, or anything else (12, 32, float).
Depth = Literal["8", "grey 16", "colour 16", "other"]

# Compressions of TIFF that OpenCV is built without, by Pillow's names.
_RARE_COMPRESSIONS = frozenset({"zstd", "lzma", "webp"})


@dataclass(frozen=True, slots=True)
class ImageTraits:
    """The traits of one image, as its header tells them.

    Attributes:
        file_name: POSIX path below the folder of the images.
        format: Pillow's name, such as ``JPEG``, with the compression of a TIFF where that is rare: ``TIFF zstd``.
        width, height: pixels; either order.
        orientation: EXIF orientation, 1 to 8; the image as stored is upright with 1, and on its side with 5 to 8.
        has_alpha: some pixels may be transparent; the header does not tell whether any is.
    """

    file_name: str
    format: str
    width: int
    height: int
    orientation: int = 1
    depth: Depth = "8"
    has_alpha: bool = False


def read_traits(file: BinaryIO, file_name: str) -> ImageTraits:
    """The traits of the image in ``file``, from its header.

    Raises:
        ImageError: it is too large.
        UnidentifiedImageError: it is in no format that is read.
    """
    with open_image(file) as image:
        tags = getattr(image, "tag_v2", None)
        width, height = (tags[256], tags[257]) if tags else image.size
        compression = image.info.get("compression", "") if tags else ""
        name = f"{image.format} {compression}" if compression in _RARE_COMPRESSIONS else str(image.format)
        depth: Depth = "8"
        if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
            depth = "other" if tags and tags.get(258) == (12,) else "grey 16"
        elif image.mode[0] in "IF":
            depth = "other"
        elif is_deep_colour(image):
            depth = "colour 16"
        return ImageTraits(file_name, name, width, height, orientation(image), depth, image.has_transparency_data)


def as_png(image: ImageTraits, suffix: str = ".png") -> ImageTraits:
    """The traits after a conversion to an upright PNG of 8 bits per channel, whose name gets ``suffix``."""
    name = str(PurePosixPath(image.file_name).with_suffix(suffix))
    width, height = (image.height, image.width) if image.orientation > 4 else (image.width, image.height)
    return ImageTraits(name, "PNG", width, height)
