"""What trainers see of a dataset's images: which files they list and open, and where their pixels differ from ours.

Every tool has limits of its own, and most say nothing: a file is not listed, or comes out white or lying on its side
while its labels stand upright. A table calls an image seen where every supported version of the tool sees it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from typing import TypeAlias

from labeler.files.paths import suffix_of
from labeler.formats.image_traits import Depth, ImageTraits

_YOLO_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
_YOLO_FORMATS = frozenset({"BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP"})
_OPENCV_FORMATS = _YOLO_FORMATS | {"JPEG2000", "PPM"}
# Pillow has no HEIF, and AVIF from version 11.3 on only.
_NOT_IN_PILLOW = frozenset({"HEIF", "AVIF"})


Kind: TypeAlias = tuple[str, bool, bool, str, int, int, Depth, bool]


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
        name = image.file_name
        suffix = suffix_of(name).lower() if self.any_case else suffix_of(name)
        if self.suffixes is not None and suffix not in self.suffixes:
            return suffix or "no suffix"
        if not self.nested and "/" in name:
            return "in a subfolder"
        if not self.hidden and _is_hidden(name):
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
        if image.depth in self.high_byte:
            return "high byte of 16 bits per channel"
        return "without the alpha channel" if image.has_alpha else ""

    def trouble(self, image: ImageTraits) -> str:
        """Why the tool does not see the image as it was labeled; empty if it does."""
        return self.unseen(image) or self.altered(image)


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
    white=frozenset({"grey 16", "other"}),
)
# torchvision appends ".jpg" to the names of a Pascal VOC dataset, and opens the file whatever is in it.
TORCHVISION_VOC = replace(TORCHVISION, title="torchvision (VOC)", suffixes=frozenset({".jpg"}), any_case=False)
RF_DETR = replace(TORCHVISION, title="RF-DETR")
RF_DETR_YOLO = replace(RF_DETR, title="RF-DETR (YOLO)", suffixes=_YOLO_SUFFIXES, nested=False)
HUGGING_FACE = replace(TORCHVISION, title="datasets", turns=None)
READERS: dict[str, tuple[Reader, ...]] = {
    "coco": (SUPERVISION_COCO, TORCHVISION),
    "yolo": (ULTRALYTICS, SUPERVISION_YOLO, RF_DETR_YOLO),
    "yolo-detect": (ULTRALYTICS, SUPERVISION_YOLO, RF_DETR_YOLO),
    "roboflow": (RF_DETR, SUPERVISION_COCO),
    "voc": (TORCHVISION_VOC,),
    "semantic": (ULTRALYTICS,),
    "hf": (HUGGING_FACE,),
}


_LARGE = max(reader.smallest_side for readers in READERS.values() for reader in readers)


def kind_of(image: ImageTraits) -> Kind:
    """All that readers ask of an image. What one sees of an image, it sees of every other of this kind."""
    name, side = image.file_name, min(image.width, image.height, _LARGE)
    about_name = suffix_of(name), "/" in name, _is_hidden(name)
    return *about_name, image.format, side, image.orientation, image.depth, image.has_alpha


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or "/." in name


def readers_of(formats: Iterable[str]) -> list[Reader]:
    """The tools that read these formats, each once."""
    return list(dict.fromkeys(reader for name in formats for reader in READERS.get(name, ())))


def helped_by(reader: Reader, image: ImageTraits, changed: ImageTraits) -> str:
    """Why the tool does not see ``image`` as it was labeled, if it would see ``changed``, such as ``as_png`` of it.

    Empty if it sees both, or neither.
    """
    return "" if reader.trouble(changed) else reader.trouble(image)
