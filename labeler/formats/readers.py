"""What trainers see of a dataset's images: which files they list and open, and where their pixels differ from ours.

Every tool has limits of its own, and most say nothing: a file is not listed, or comes out white or lying on its side
while its labels stand upright. The tables hold for the oldest supported version of each tool; newer ones may read more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

from labeler.files.image_formats import is_deep_colour, open_image, orientation

# Bits per channel: 8 or fewer, 16 of a grey image, 16 of a colour image, or anything else (12, 32, float).
Depth = Literal["8", "grey 16", "colour 16", "other"]

# Compressions of TIFF that OpenCV is built without, by Pillow's names.
_RARE_COMPRESSIONS = frozenset({"zstd", "lzma", "webp"})
_YOLO_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
_YOLO_FORMATS = frozenset({"BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP"})
_OPENCV_FORMATS = _YOLO_FORMATS | {"JPEG2000", "PPM"}
# Pillow has no HEIF, and AVIF from version 11.3 on only.
_NOT_IN_PILLOW = frozenset({"HEIF", "AVIF"})


@dataclass(frozen=True, slots=True)
class ImageTraits:
    """What decides which tools read an image; the header tells it.

    Attributes:
        file_name: POSIX path below the folder of the images.
        format: Pillow's name, such as ``JPEG``, with the compression of a TIFF where that is rare: ``TIFF zstd``.
        width, height: pixels; either order.
        orientation: EXIF orientation, 1 to 8; the image as stored is upright with 1, and on its side with 5 to 8.
    """

    file_name: str
    format: str
    width: int
    height: int
    orientation: int = 1
    depth: Depth = "8"


@dataclass(frozen=True)
class Reader:
    """A tool that reads a dataset, with the limits of its own loader.

    Attributes:
        title: for users.
        suffixes: those that it lists, in lower case; None if it opens what the annotations name.
        any_case: it also lists them in upper case.
        formats: those that it decodes, by Pillow's names; None for all but ``not_formats``.
        smallest_side: in pixels.
        nested: it also looks into subfolders.
        hidden: it lists names that begin with a dot.
        turns: the formats that it turns upright; None for all.
        not_on_its_side: formats that it cannot open if the image is stored on its side.
        high_byte: depths of which it keeps the high byte, so that an image that uses fewer bits comes out dark.
        white: depths that it clips, so that the image comes out white. It cannot open the remaining ones.
    """

    title: str
    _: KW_ONLY
    suffixes: frozenset[str] | None = None
    any_case: bool = True
    formats: frozenset[str] | None = None
    not_formats: frozenset[str] = frozenset()
    smallest_side: int = 1
    nested: bool = True
    hidden: bool = True
    turns: frozenset[str] | None = None
    not_on_its_side: frozenset[str] = frozenset()
    high_byte: frozenset[Depth] = frozenset({"grey 16", "colour 16"})
    white: frozenset[Depth] = frozenset()

    def unseen(self, image: ImageTraits) -> str:
        """Why the tool does not list or cannot open the image, in a few words; empty if it does."""
        path = PurePosixPath(image.file_name)
        suffix = path.suffix.lower() if self.any_case else path.suffix
        if self.suffixes is not None and suffix not in self.suffixes:
            return suffix or "no suffix"
        if not self.nested and len(path.parts) > 1:
            return "in a subfolder"
        if not self.hidden and any(part.startswith(".") for part in path.parts):
            return "hidden"
        if image.format in self.not_formats or (self.formats is not None and image.format not in self.formats):
            return image.format
        if image.orientation > 4 and image.format in self.not_on_its_side:
            return f"{image.format} on its side"
        if min(image.width, image.height) < self.smallest_side:
            return f"smaller than {self.smallest_side} pixels"
        if image.depth not in {"8", *self.high_byte, *self.white}:
            return "12, 32 or float bits per channel"
        return ""

    def altered(self, image: ImageTraits) -> str:
        """How an image that the tool opens differs from the labeled one; empty if it does not."""
        if image.orientation != 1 and self.turns is not None and image.format not in self.turns:
            return "not turned upright"
        if image.depth in self.white:
            return "white, of more than 8 bits per channel"
        return "high byte of 16 bits per channel" if image.depth in self.high_byte else ""


_PILLOW: frozenset[Depth] = frozenset({"grey 16", "other"})
ULTRALYTICS = Reader("Ultralytics", suffixes=_YOLO_SUFFIXES, formats=_YOLO_FORMATS, smallest_side=10, hidden=False)
SUPERVISION_YOLO = Reader(
    "supervision (YOLO)",
    suffixes=_YOLO_SUFFIXES,
    formats=_YOLO_FORMATS,
    nested=False,
    not_on_its_side=frozenset({"TIFF"}),
)
SUPERVISION_COCO = Reader("supervision (COCO)", formats=_OPENCV_FORMATS, not_on_its_side=frozenset({"TIFF"}))
TORCHVISION = Reader(
    "torchvision",
    not_formats=_NOT_IN_PILLOW,
    turns=frozenset({"TIFF"}),
    high_byte=frozenset({"colour 16"}),
    white=_PILLOW,
)
RF_DETR = Reader(
    "RF-DETR",
    not_formats=_NOT_IN_PILLOW,
    turns=frozenset({"TIFF"}),
    high_byte=frozenset({"colour 16"}),
    white=_PILLOW,
)
RF_DETR_YOLO = Reader(
    "RF-DETR (YOLO)",
    suffixes=_YOLO_SUFFIXES,
    not_formats=_NOT_IN_PILLOW,
    nested=False,
    turns=frozenset({"TIFF"}),
    high_byte=frozenset({"colour 16"}),
    white=_PILLOW,
)
HUGGING_FACE = Reader("datasets", not_formats=_NOT_IN_PILLOW, high_byte=frozenset({"colour 16"}), white=_PILLOW)
# torchvision appends ".jpg" to the names of a Pascal VOC dataset, and opens the file whatever is in it.
TORCHVISION_VOC = Reader(
    "torchvision (VOC)",
    suffixes=frozenset({".jpg"}),
    any_case=False,
    not_formats=_NOT_IN_PILLOW,
    turns=frozenset({"TIFF"}),
    high_byte=frozenset({"colour 16"}),
    white=_PILLOW,
)
READERS: dict[str, tuple[Reader, ...]] = {
    "coco": (SUPERVISION_COCO, TORCHVISION),
    "yolo": (ULTRALYTICS, SUPERVISION_YOLO, RF_DETR_YOLO),
    "yolo-detect": (ULTRALYTICS, SUPERVISION_YOLO, RF_DETR_YOLO),
    "roboflow": (RF_DETR, SUPERVISION_COCO),
    "voc": (TORCHVISION_VOC,),
    "semantic": (ULTRALYTICS,),
    "hf": (HUGGING_FACE,),
}


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
        return ImageTraits(file_name, name, width, height, orientation(image), depth)


def as_png(image: ImageTraits, suffix: str = ".png") -> ImageTraits:
    """The traits after a conversion to an upright PNG of 8 bits per channel, whose name gets ``suffix``."""
    name = str(PurePosixPath(image.file_name).with_suffix(suffix))
    width, height = (image.height, image.width) if image.orientation > 4 else (image.width, image.height)
    return ImageTraits(name, "PNG", width, height)


def helped_by(readers: Iterable[Reader], image: ImageTraits, changed: ImageTraits) -> bool:
    """Whether a tool that does not see ``image`` as it was labeled would see ``changed``, such as ``as_png`` of it."""
    return any(
        (reader.unseen(image) or reader.altered(image)) and not (reader.unseen(changed) or reader.altered(changed))
        for reader in readers
    )


@dataclass
class Sight:
    """How many images of a dataset a tool sees.

    Attributes:
        unseen: images that it does not see, by cause.
        altered: images that it sees other than they were labeled, by how.
    """

    reader: Reader
    images: int = 0
    unseen: Counter[str] = field(default_factory=Counter)
    altered: Counter[str] = field(default_factory=Counter)

    @property
    def seen(self) -> int:
        return self.images - self.unseen.total()

    def add(self, image: ImageTraits) -> None:
        self.images += 1
        if cause := self.reader.unseen(image):
            self.unseen[cause] += 1
        elif difference := self.reader.altered(image):
            self.altered[difference] += 1

    def line(self) -> str:
        """For the summary, such as ``Ultralytics sees 2 of 3 images (1 .gif)``."""
        causes = ", ".join(f"{count:,} {cause}" for cause, count in self.unseen.most_common())
        line = f"{self.reader.title} sees {self.seen:,} of {self.images:,} images" + (f" ({causes})" if causes else "")
        different = ", ".join(f"{count:,} {how}" for how, count in self.altered.most_common())
        return line + (f"; other than labeled: {different}" if different else "")


def readers_of(formats: Iterable[str]) -> list[Reader]:
    """The tools that read these formats, each once."""
    return list(dict.fromkeys(reader for name in formats for reader in READERS.get(name, ())))


def sights(readers: Sequence[Reader], images: Iterable[ImageTraits]) -> list[Sight]:
    """What each of ``readers`` sees."""
    found = [Sight(reader) for reader in readers]
    for image in images:
        for sight in found:
            sight.add(image)
    return found
