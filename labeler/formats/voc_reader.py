"""Reads the boxes of Pascal VOC annotations, one XML file per image, as VOC, LabelImg, CVAT and Roboflow write them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from labeler.errors import FormatError
from labeler.files.storage import info, read_bytes, scan
from labeler.formats.findings import BOX_AS_BOX, BOX_AS_MASK, Findings
from labeler.geometry.masks import Rle, box_to_rle, rle_area
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance, unique_classes
from labeler.sizes import checked_size, shown
from ontologies.documents import DocumentError, parse_xml

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SUFFIX = ".xml"
_Object = tuple[str, tuple[float, float, float, float], Rle]  # class name, box xyxy, mask of the box


def read_voc(path: AnyPath, boxes_as_masks: bool = False) -> GroundTruth:
    """The objects in an XML file, or in all XML files of a folder and its subfolders; only their boxes are known.

    Class ids follow the sorted names. An object that cannot be read is left out and counted; a file that is not an
    annotation is an error. An image is named by the ``filename`` in its XML, below the subfolder of the XML file.

    Args:
        boxes_as_masks: take the rectangle as the mask.

    Raises:
        FormatError: there is no XML file, one is damaged or is not an annotation, or two are of the same image.
    """
    findings = Findings()
    found = info(path)
    files = list(_xml_files(path, "")) if found and found.is_folder else [(path, "")]
    if not files:
        raise FormatError(f"{path}: no XML file of Pascal VOC in it")
    read = [_read_image(file, folder, findings) for file, folder in files]
    all_names = sorted({name for _, _, objects in read for name, _, _ in objects})
    names, ids = unique_classes(all_names)
    id_of = dict(zip(all_names, ids, strict=True))
    images: dict[str, GroundTruthImage] = {}
    for name, (width, height), objects in read:
        if name in images:
            raise FormatError(f"{path}: several XML files are of the image {shown(name)}; keep one of them")
        instances = []
        for class_name, box, rle in objects:
            findings.add("object", BOX_AS_MASK if boxes_as_masks else BOX_AS_BOX, name)
            instances.append(
                GroundTruthInstance(
                    id_of[class_name], rle, box_xyxy=box, area=rle_area(rle), box_only=not boxes_as_masks
                )
            )
        images[name] = GroundTruthImage(name, width, height, tuple(instances))
    return GroundTruth(names, tuple(images.values()), notes=findings.lines())


def has_voc(folder: AnyPath) -> bool:
    """Whether a folder or a subfolder holds an XML file."""
    return next(_xml_files(folder, ""), None) is not None


def _xml_files(folder: AnyPath, below: str) -> Iterator[tuple[AnyPath, str]]:
    """(file, the folder of its image below the root), sorted; VOC keeps annotations in a folder ``Annotations``."""
    for entry in sorted(scan(folder), key=lambda each: each.name):
        if entry.is_folder:
            inner = below if entry.name.casefold() == "annotations" else f"{below}{entry.name}/"
            yield from _xml_files(folder / entry.name, inner)
        elif entry.name.lower().endswith(SUFFIX):
            yield folder / entry.name, below


def _read_image(path: AnyPath, folder: str, findings: Findings) -> tuple[str, tuple[int, int], list[_Object]]:
    try:
        root = parse_xml(read_bytes(path))
        if root.tag != "annotation":
            raise ValueError(f"the root element is <{shown(root.tag)}>, not <annotation>")
        named = re.split(r"[/\\]", _text(root, "filename"))[-1]
        size = checked_size(int(_number(root, "size/width")), int(_number(root, "size/height")))
    except (DocumentError, OSError, ValueError) as error:
        raise FormatError(f"{path}: not an annotation of Pascal VOC ({' '.join(str(error).split())})") from None
    objects = []
    for number, element in enumerate(root.iterfind("object"), start=1):
        where = f"{path.name}: object {number}"
        try:
            name, box = _text(element, "name"), _box(element, size)
            objects.append((name, box, box_to_rle(box, *size)))
        except ValueError as error:
            findings.add("object", "that cannot be read: left out", f"{where}: {error}")
            continue
        if (element.findtext("difficult") or "").strip() == "1":
            findings.add("object", "marked 'difficult': counted like any other", where)
    return folder + named, size, objects


def _box(element: Element, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box along pixel edges. VOC counts pixels from 1, and its last pixel belongs to the box."""
    x1, y1, x2, y2 = (_number(element, f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax"))
    if x2 < x1 or y2 < y1:
        raise ValueError("xmax or ymax is smaller than xmin or ymin")
    if min(x1, y1) < -max(size) or max(x2, y2) > 2 * max(size):
        raise ValueError("the box lies far outside the image")
    return x1 - 1, y1 - 1, x2, y2


def _text(element: Element, tag: str) -> str:
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"<{tag}> is missing or empty")
    return text


def _number(element: Element, tag: str) -> float:
    text = _text(element, tag)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"<{tag}> is {shown(text)}, not a number") from None
    if not abs(value) < 1e9:  # false for nan, too
        raise ValueError(f"<{tag}> is {shown(text)}, not a coordinate")
    return value
