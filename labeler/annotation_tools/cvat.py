"""Review sets for CVAT, and its corrections: "CVAT for images 1.1" XML (https://docs.cvat.ai/docs/other/xml_format).

A mask's ``rle`` lists run lengths in row order within its tight box, starting with background.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from labeler.annotation_tools.corrections import (
    FIRST_OBJECT_ID,
    OBJECT_ID,
    CorrectedImage,
    CorrectedInstance,
    SentImage,
    UnreadShape,
)
from labeler.errors import FormatError
from labeler.geometry.masks import Rle, mask_to_rle, rle_box_xyxy, rle_to_mask
from labeler.geometry.polygons import ellipse_polygon, polygons_to_rle
from labeler.sizes import checked_size
from ontologies.documents import DocumentError, parse_xml

ATTRIBUTES = (OBJECT_ID, "score")  # of every label; CVAT keeps only attributes that the task's labels declare
SCORE_DIGITS = 6
READ = ("mask", "polygon", "ellipse")  # elements with an area that a person drew; a box is no mask


def rle_to_cvat(rle: Rle) -> dict[str, str]:
    """Attributes ``rle``, ``left``, ``top``, ``width`` and ``height`` of a ``<mask>``. The mask must not be empty."""
    x1, y1, x2, y2 = (int(side) for side in rle_box_xyxy(rle))
    flat = rle_to_mask(rle)[y1:y2, x1:x2].ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    runs = np.diff(np.append(starts, flat.size)).tolist()
    counts = ", ".join(map(str, [0, *runs] if flat[0] else runs))
    return {"rle": counts, "left": str(x1), "top": str(y1), "width": str(x2 - x1), "height": str(y2 - y1)}


def cvat_to_rle(attributes: dict[str, str], width: int, height: int) -> Rle:
    """The mask of a ``<mask>`` element in an image of that size.

    Raises:
        ValueError, KeyError: the attributes are incomplete or contradict each other.
    """
    width, height = checked_size(width, height)
    left, top, box_width, box_height = (int(attributes[key]) for key in ("left", "top", "width", "height"))
    runs = np.array(attributes["rle"].split(","), dtype=np.int64)
    inside = min(left, top, box_width - 1, box_height - 1) >= 0
    inside = inside and left + box_width <= width and top + box_height <= height
    # Single runs are checked too: a sum that overflows could come out right.
    if not inside or runs.min() < 0 or runs.max() > box_width * box_height or runs.sum() != box_width * box_height:
        raise ValueError(f"a mask does not fit its box, or its box the image of {width} x {height} pixels")
    mask = np.zeros((height, width), dtype=bool, order="F")  # COCO's runs are in column order
    values = np.repeat(np.arange(runs.size) % 2 == 1, runs)
    mask[top : top + box_height, left : left + box_width] = values.reshape(box_height, box_width)
    return mask_to_rle(mask)


def label_specification(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Input for the raw view of CVAT's label constructor: the classes, with the attributes of the masks."""
    attributes = [
        {"name": name, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
        for name in ATTRIBUTES
    ]
    return [{"name": name, "type": "any", "attributes": attributes} for name in class_names]


def write_cvat(folder: Path, images: Sequence[SentImage], class_names: Sequence[str]) -> None:
    """Write ``annotations.xml`` and ``labels.json`` into ``folder``."""
    labels = json.dumps(label_specification(class_names), indent=2, ensure_ascii=False)
    (folder / "labels.json").write_text(labels + "\n", encoding="utf-8", newline="\n")
    with open(folder / "annotations.xml", "w", encoding="utf-8", newline="\n") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(_text(_meta(len(images), class_names)))
        for number, image in enumerate(images):
            file.write(_text(_image(number, image)))
        file.write("</annotations>\n")


def _text(element: Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode") + "\n"


def _add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    element = SubElement(parent, tag, attributes)
    element.text = text
    return element


def _meta(images: int, class_names: Iterable[str]) -> Element:
    meta = Element("meta")
    task = _add(meta, "task")
    for name, text in (("name", "review"), ("size", str(images)), ("mode", "annotation"), ("z_order", "True")):
        _add(task, name, text)
    labels = _add(task, "labels")
    for class_name in class_names:
        label = _add(labels, "label")
        _add(label, "name", class_name)
        attributes = _add(label, "attributes")
        for name in ATTRIBUTES:
            attribute = _add(attributes, "attribute")
            for tag, text in (("name", name), ("mutable", "False"), ("input_type", "text")):
                _add(attribute, tag, text)
            _add(attribute, "default_value")
            _add(attribute, "values")
    return meta


def _image(number: int, image: SentImage) -> Element:
    size = {"width": str(image.width), "height": str(image.height)}
    element = Element("image", {"id": str(number), "name": image.name, **size})
    for each in image.instances:
        mask = {"label": each.class_name, "source": "file", "occluded": "0", **rle_to_cvat(each.rle), "z_order": "0"}
        shape = _add(element, "mask", **mask)
        _add(shape, "attribute", each.object_id, name=OBJECT_ID)
        _add(shape, "attribute", f"{each.score:.{SCORE_DIGITS}f}", name="score")
    return element


def read_cvat(data: bytes) -> list[CorrectedImage]:
    """Every image of the file, with its masks, polygons and ellipses; all images count as reviewed.

    Raises:
        FormatError: the file is not such XML, or it is damaged.
    """
    try:
        root = parse_xml(data)
    except DocumentError as error:
        raise FormatError(str(error)) from error
    if root.tag != "annotations" or root.find("track") is not None:
        raise FormatError('not "CVAT for images 1.1"; export the task in that format')
    images = []
    for element in root.iter("image"):
        name = element.get("name", "")
        try:
            width, height = checked_size(int(element.attrib["width"]), int(element.attrib["height"]))
            shapes = [shape for shape in element if shape.tag != "tag"]
            instances = tuple(_instance(shape, width, height) for shape in shapes if shape.tag in READ)
            unread = tuple(UnreadShape(shape.tag, _object_id(shape)) for shape in shapes if shape.tag not in READ)
        except KeyError as error:
            raise FormatError(f"image {name}: {error} is missing") from error
        except MemoryError as error:
            raise FormatError(f"image {name}: not enough memory for a mask of {width} x {height} pixels") from error
        except (ValueError, OverflowError) as error:
            raise FormatError(f"image {name}: {str(error).splitlines()[0]}") from error
        images.append(CorrectedImage(name, instances, unread))
    return images


def _object_id(shape: Element) -> str:
    texts = {each.get("name"): each.text or "" for each in shape.iterfind("attribute")}
    return texts.get(OBJECT_ID) or texts.get(FIRST_OBJECT_ID, "")


def _instance(shape: Element, width: int, height: int) -> CorrectedInstance:
    name, object_id = shape.attrib["label"], _object_id(shape)
    if shape.tag == "mask":
        return CorrectedInstance(name, cvat_to_rle(shape.attrib, width, height), object_id)
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = (float(shape.attrib[key]) for key in ("cx", "cy", "rx", "ry"))
        polygon = ellipse_polygon((x, y), (radius_x, radius_y), float(shape.get("rotation", "0")))
        return CorrectedInstance(name, polygons_to_rle([polygon], height, width), object_id, outlined=True)
    points = np.array([point.split(",") for point in shape.attrib["points"].split(";")], dtype=np.float64)
    if (
        points.ndim != 2
        or points.shape[1] != 2
        or len(points) < 3
        or not (np.abs(points) <= 2 * max(width, height)).all()
    ):
        raise ValueError("a polygon is not a list of three or more points in or near the image")
    return CorrectedInstance(name, polygons_to_rle([points.ravel().tolist()], height, width), object_id, outlined=True)
