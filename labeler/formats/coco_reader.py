"""Reads the annotations of COCO files as different tools write them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from pycocotools import mask as coco_mask

from labeler.formats.coco_values import BoxXyxy, box_xyxy, flag, number, reason, whole
from labeler.formats.findings import BOX_AS_BOX, BOX_AS_MASK, Findings
from labeler.geometry.masks import Rle, box_to_rle, checked_rle, rle_area, rle_box_xyxy
from labeler.geometry.polygons import polygons_to_rle
from labeler.ground_truth import GroundTruthInstance
from labeler.sizes import checked_size, shown

FEWEST = 6  # coordinates of a polygon: three points


def read_object(
    annotation: dict[str, Any],
    class_id: int,
    size: tuple[int, int],
    boxes_as_masks: bool,
    name: object,
    findings: Findings,
) -> GroundTruthInstance:
    """The object of an annotation.

    Args:
        size: width and height of its image.
        boxes_as_masks: take the box as the mask if there is no mask.
        name: of the annotation, for ``findings``.

    Raises:
        ValueError, KeyError, TypeError: it has neither a mask nor a box that can be read.
    """
    crowd = flag(annotation.get("iscrowd"), "iscrowd")
    if not crowd and flag(annotation.get("ignore"), "ignore"):
        crowd = True
        findings.add("annotation", "marked 'ignore': a crowd, which is neither right nor wrong", name)
    box = _box(annotation, size)
    rle = _mask(annotation.get("segmentation"), size, box, name, findings)
    if rle is None:
        if isinstance(box, ValueError):
            raise box if annotation.get("bbox") else ValueError("it has neither a mask nor a box")
        rle, is_box = box_to_rle(box, *size), True
        findings.add("annotation", BOX_AS_MASK if boxes_as_masks else BOX_AS_BOX, name)
    else:
        is_box = False
    if isinstance(box, ValueError):
        if annotation.get("bbox") not in (None, []):
            findings.add("annotation", "with a box that cannot be read: the box of the mask counts", name)
        box = rle_box_xyxy(rle)
    area = _area(annotation, rle, box if is_box else None, name, findings)
    return GroundTruthInstance(class_id, rle, crowd, box, area, box_only=is_box and not boxes_as_masks)


def _box(annotation: dict[str, Any], size: tuple[int, int]) -> BoxXyxy | ValueError:
    """The box, or the error if there is none that can be read."""
    try:
        box = box_xyxy(annotation.get("bbox"))
    except ValueError as error:
        return error
    if max(map(abs, box)) > 2 * max(size):
        return ValueError("the box lies far outside the image")
    return box


def _mask(
    segmentation: Any, size: tuple[int, int], box: BoxXyxy | ValueError, name: object, findings: Findings
) -> Rle | None:
    """The mask of a segmentation; None if there is none, or if it cannot be read but the box can."""
    try:
        if isinstance(segmentation, list):
            polygons = polygons_of(segmentation)
            segmentation = [polygon for polygon in polygons if len(polygon) >= FEWEST]
            if 0 < len(segmentation) < len(polygons):
                findings.add("annotation", "with parts of fewer than three points: these parts are left out", name)
        if not segmentation:
            return None
        rle = segmentation_to_rle(segmentation, *size)
        return rle if isinstance(segmentation, list) or rle_area(rle) else None
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        if isinstance(box, ValueError):
            raise
        findings.add("annotation", "with a mask that cannot be read: taken as without one", f"{name}: {reason(error)}")
        return None


def _area(annotation: dict[str, Any], rle: Rle, box: BoxXyxy | None, name: object, findings: Findings) -> float:
    """The stated area, or that of the mask, or that of ``box`` if it is given."""
    if "area" in annotation:
        try:
            return number(annotation["area"], "area")
        except ValueError:
            findings.add("annotation", "with an area that is no number: measured instead", name)
    return rle_area(rle) if box is None else (box[2] - box[0]) * (box[3] - box[1])


def polygons_of(segmentation: Sequence[Any]) -> list[list[Any]]:
    """Polygons as flat lists x1, y1, x2, y2, …

    Tools also write one polygon without the outer list, points as pairs or as ``{"x": …, "y": …}``, and numbers as
    text.

    Raises:
        ValueError, KeyError: they are something else.
    """
    polygons = list(segmentation)
    is_one = all(not isinstance(each, list) for each in polygons)
    if is_one or (len(polygons) > 2 and all(isinstance(each, list) and _is_point(each) for each in polygons)):
        polygons = [polygons]
    return [_flat(polygon) for polygon in polygons] if segmentation else []


def _is_point(entry: list[Any]) -> bool:
    return len(entry) == 2 and not any(isinstance(value, (list, dict)) for value in entry)


def _flat(polygon: Any) -> list[Any]:
    if not isinstance(polygon, list):
        raise ValueError("a polygon is not a list of three or more x, y")
    values: list[Any] = []
    for entry in polygon:
        if isinstance(entry, dict):
            values += (entry["x"], entry["y"])
        elif isinstance(entry, list):
            if not _is_point(entry):
                raise ValueError("a point of a polygon is not a pair x, y")
            values += entry
        else:
            values.append(entry)
    return [number(value, "a coordinate") if isinstance(value, str) else value for value in values]


def segmentation_to_rle(segmentation: Any, width: int, height: int) -> Rle:
    """The mask of an annotation's ``segmentation``: polygons, compressed RLE, or uncompressed RLE.

    Raises:
        ValueError, KeyError, TypeError: it is not a mask for an image of that size.
    """
    width, height = checked_size(width, height)
    if isinstance(segmentation, list):
        return polygons_to_rle(polygons_of(segmentation), height, width)
    if not isinstance(segmentation, dict):
        raise ValueError(f"'segmentation' is {shown(segmentation)}, neither polygons nor RLE")
    size = segmentation["size"]
    if not isinstance(size, list) or [whole(side) for side in size] != [height, width]:
        raise ValueError(f"RLE of size {shown(size)} on an image of size {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, str) and counts.startswith(("b'", 'b"')):
        counts = _bytes_as_text(counts)
    if isinstance(counts, list):
        if any(type(run) is not int or run < 0 for run in counts) or sum(counts) != height * width:
            raise ValueError(f"RLE counts do not sum to {height} x {width}")
        counts = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    return checked_rle({"size": [height, width], "counts": counts})


def _bytes_as_text(counts: str) -> bytes:
    """The bytes of counts that were written with ``str(counts)``; such text begins with a quote that no RLE has."""
    try:
        value = ast.literal_eval(counts)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, bytes):
        raise ValueError("RLE counts are damaged text of bytes")
    return value
