"""Writes Pascal VOC: XML with boxes, class and object masks, and the lists of each split.

``labeler.formats.voc_reader`` reads the boxes, ``labeler.formats.mask_images`` the class masks.

    Annotations/a.xml  JPEGImages/a.jpg  SegmentationClass/a.png  SegmentationObject/a.png  labelmap.txt
    ImageSets/Main/train.txt  ImageSets/Segmentation/train.txt
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from xml.etree.ElementTree import Element, SubElement, indent, tostring
from xml.sax.saxutils import escape

from labeler.errors import UsageError
from labeler.formats.index_masks import IGNORED, painted, palette_png, visible, voc_palette
from labeler.formats.mask_classes import MOST, label_map
from labeler.formats.semantic import check_classes
from labeler.geometry.masks import rle_area, rle_box_xyxy
from labeler.records import ImageRecord

_NOT_IN_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class VocMasks:
    """The mask images of an image as PNG.

    Attributes:
        classes: each pixel has the class id + 1 of the object with the best score there; 0 is the background.
        objects: each pixel has the number of that object, counted from 1 in the order of the XML.
        beyond: objects whose number is above 254; their pixels have the value 255, which readers ignore.
    """

    classes: bytes
    objects: bytes
    beyond: int = 0


def voc_xml(record: ImageRecord, file_name: str, class_names: Sequence[str]) -> str:
    """The annotation of an image: an object for each instance, except for those with an empty mask.

    A box holds the first and the last pixel of the mask, counted from 1.

    Args:
        file_name: of the image in ``JPEGImages``; empty if ``with_file_name`` fills it in.

    Raises:
        UsageError: a class id is not in ``class_names``, or a name has characters that XML forbids.
    """
    check_classes(record, len(class_names))
    path = PurePosixPath(file_name)
    root = Element("annotation")
    _add(root, "folder", "JPEGImages")
    _add(root, "filename", path.name)
    _add(SubElement(root, "source"), "database", "Unknown")
    size = SubElement(root, "size")
    for name, value in (("width", record.width), ("height", record.height), ("depth", 3)):
        _add(size, name, str(value))
    _add(root, "segmented", "1")
    for instance in record.instances:
        if not rle_area(instance.rle):
            continue
        x1, y1, x2, y2 = map(int, rle_box_xyxy(instance.rle))
        element = SubElement(root, "object")
        _add(element, "name", class_names[instance.class_id])
        _add(element, "pose", "Unspecified")
        _add(element, "truncated", "0")
        _add(element, "difficult", "0")
        box = SubElement(element, "bndbox")
        for name, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _add(box, name, str(value))
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def with_file_name(xml: str, file_name: str) -> str:
    """A ``voc_xml`` that was made with an empty file name, with that of the image.

    Raises:
        UsageError: the name has characters that XML forbids.
    """
    name = escape(_checked(PurePosixPath(file_name).name))
    return xml.replace("<filename />", f"<filename>{name}</filename>", 1)


def voc_masks(record: ImageRecord, class_count: int) -> VocMasks:
    """The class mask and the object mask of an image.

    Raises:
        UsageError: there are more than 254 classes, or a class id is not below ``class_count``.
    """
    check_classes(record, class_count)
    numbers, count = [], 0
    for instance in record.instances:
        count += rle_area(instance.rle) > 0  # in the XML, too, an object with an empty mask has no number
        numbers.append(min(count, IGNORED))
    shown = visible(record)
    classes = painted(shown, [instance.class_id + 1 for instance in record.instances])
    return VocMasks(palette_png(classes), palette_png(painted(shown, numbers)), max(0, count - MOST))


def voc_label_map(class_names: Sequence[str]) -> str:
    """The content of ``labelmap.txt``, with the colour of each class; see ``label_map``."""
    return label_map(class_names, voc_palette().tolist())


def voc_image_set(file_names: Iterable[str]) -> str:
    """The content of ``ImageSets/*/SPLIT.txt``: the images' names without their suffix, a line each."""
    return "".join(f"{PurePosixPath(name).with_suffix('')}\n" for name in file_names)


def _add(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = _checked(text)


def _checked(text: str) -> str:
    if found := _NOT_IN_XML.search(text):
        raise UsageError(f"{text!r}: XML cannot hold the character {found[0]!r}; rename it")
    return text
