"""Reads corrections from Label Studio: its exports as JSON or JSON-MIN.

A region's shape is told by its values, and not by its type: a project with ``<Brush>`` and ``<Labels>`` in place of
``<BrushLabels>`` has the same masks under another type, and JSON-MIN has no types.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image

from labeler.annotation_tools.corrections import CorrectedImage, CorrectedInstance, UnreadShape
from labeler.annotation_tools.label_studio import brush_to_rle
from labeler.errors import FormatError
from labeler.geometry.masks import Rle, mask_to_rle
from labeler.geometry.polygons import ellipse_polygon, polygons_to_rle
from labeler.sizes import checked_size, shown, unicode_text

# Results that say something about an image or a region, and are no shapes.
_NO_SHAPES = (
    "choices",
    "textarea",
    "text",
    "rating",
    "taxonomy",
    "number",
    "datetime",
    "relation",
    "pairwise",
    "ranker",
)
_SHAPES = ("rle", "imageDataURL", "points", "vertices", "radiusX", "x")  # values that a shape has one of


def read_label_studio(tasks: list[Any]) -> list[CorrectedImage]:
    """The annotated tasks of a JSON or JSON-MIN export.

    Skipped tasks, drafts, and tasks that have no annotation are left out. If a task has several annotations, the one
    marked as ground truth counts, or else the one changed last.

    Raises:
        FormatError: a task is damaged.
    """
    images: dict[str, tuple[tuple[bool, str], CorrectedImage]] = {}
    for position, task in enumerate(tasks):
        identity = task.get("id", position) if isinstance(task, dict) else position
        where = f"task {identity if isinstance(identity, str) else shown(identity)}"
        try:
            _check_object(task, "a task")
            for order, name, regions in _annotations(task):
                read = [_shape(region) for region in _merged(regions)]
                instances = tuple(each for each in read if isinstance(each, CorrectedInstance))
                image = CorrectedImage(name, instances, tuple(each for each in read if isinstance(each, UnreadShape)))
                if name not in images or images[name][0] <= order:
                    images[name] = order, image
        except KeyError as error:
            raise FormatError(f"{where}: {error} is missing") from error
        except MemoryError as error:
            raise FormatError(f"{where}: not enough memory for a mask of that size") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FormatError(f"{where}: {str(error).splitlines()[0]}") from error
    return [image for _, image in images.values()]


def _annotations(task: dict[str, Any]) -> Iterator[tuple[tuple[bool, str], str, list[Any]]]:
    """Sort key that says which annotation counts, name of the image, and regions as JSON has them."""
    if "data" in task:
        _check_object(task["data"], "'data'")
        for annotation in task.get("annotations", []):
            _check_object(annotation, "an annotation")
            if not annotation.get("was_cancelled") and not _is_from_nothing(annotation):
                order = bool(annotation.get("ground_truth")), str(annotation.get("updated_at") or "")
                yield order, _name(task["data"]["image"]), annotation["result"]
    elif task["annotation_id"] is not None:  # JSON-MIN
        regions = [
            {**value, "value": value}
            for values in task.values()
            if isinstance(values, list)
            for value in values
            if isinstance(value, dict)
        ]
        yield (False, str(task.get("updated_at") or "")), _name(task["image"]), regions


def _is_from_nothing(annotation: dict[str, Any]) -> bool:
    """Whether an annotation was submitted empty without the predictions ever being in it, so nothing was deleted."""
    origins = ("parent_prediction", "parent_annotation", "prediction")
    began_empty = "parent_prediction" in annotation and not any(annotation.get(origin) for origin in origins)
    return began_empty and annotation["result"] == []


def _check_object(value: object, what: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {shown(value)}, not an object")


def _name(url: object) -> str:
    """The path of an image, from its URL."""
    if not isinstance(url, str):
        raise ValueError(f"the image's address is {shown(url)}, not text")
    unicode_text(url, "the image's address")
    parts = urlsplit(url)
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[-1].replace("\\", "/").lstrip("/")


def _merged(regions: Sequence[Any]) -> list[dict[str, Any]]:
    """The shapes among an annotation's results, each with all its labels.

    Where shape and label have tags of their own, there is a result for each of the two, with the same shape in both.
    Without ids, two labels of one shape are two objects.
    """
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for region in regions:
        _check_object(region, "a region")
        value = region.get("value", {})
        _check_object(value, "'value'")
        shape = {key: value[key] for key in _SHAPES if key in value}
        if not shape and (region.get("type") in _NO_SHAPES or any(key in value for key in _NO_SHAPES)):
            continue
        labels = _labels(value)
        key = str(region.get("id", "")), json.dumps(shape, sort_keys=True)
        place = key if key[0] or not labels else (*key, *map(str, labels))
        before = merged.get(place, {"labels": []})
        labels = list(dict.fromkeys([*before["labels"], *map(str, labels)]))
        merged[place] = {**before, **region, "value": {**before.get("value", {}), **value}, "labels": labels}
    labeled = {place[:2] for place, region in merged.items() if region["labels"]}
    return [region for place, region in merged.items() if region["labels"] or place not in labeled]


def _labels(value: Mapping[str, Any]) -> list[Any]:
    """The labels of a region, whatever tag they come from: ``brushlabels``, ``labels``, …"""
    lists = [found for key, found in value.items() if key.endswith("labels") and isinstance(found, list)]
    return next(filter(None, lists), [])


def _shape(region: dict[str, Any]) -> CorrectedInstance | UnreadShape:
    """The object of a region, or the shape if it cannot be read as a mask of a class."""
    value, labels = region["value"], region["labels"]
    object_id, kind = str(region.get("id", "")), str(region.get("type") or _kind(value))
    if not any(key in value for key in ("rle", "imageDataURL", "points", "radiusX")) or value.get("closed") is False:
        return UnreadShape(kind, object_id)
    if len(labels) != 1:
        return UnreadShape(f"{kind} with {len(labels) or 'no'} labels", object_id)
    width, height = checked_size(region["original_width"], region["original_height"])
    name = unicode_text(labels[0], "a label")
    if "rle" in value:
        return CorrectedInstance(name, brush_to_rle(value["rle"], width, height), object_id)
    if "imageDataURL" in value:
        rle = _picture_to_rle(value["imageDataURL"], width, height)
        return (
            UnreadShape(f"{kind} of another size", object_id)
            if rle is None
            else CorrectedInstance(name, rle, object_id)
        )
    if "radiusX" in value:
        x, y, radius_x, radius_y = (float(value[key]) / 100 for key in ("x", "y", "radiusX", "radiusY"))
        turn = float(value.get("rotation") or 0)
        polygon = ellipse_polygon((x * width, y * height), (radius_x * width, radius_y * height), turn)
    else:
        points = np.array(value["points"], dtype=np.float64).reshape(-1, 2)
        if len(points) < 3 or not (np.abs(points) <= 200).all():
            raise ValueError("a polygon is not a list of three or more points in per cent")
        polygon = (points * (width / 100, height / 100)).ravel().tolist()
    return CorrectedInstance(name, polygons_to_rle([polygon], height, width), object_id, outlined=True)


def _kind(value: Mapping[str, Any]) -> str:
    """What JSON-MIN, which has no types, names a region by: the key of its labels."""
    return next((key for key in value if key.endswith("labels")), "shape")


def _picture_to_rle(url: object, width: int, height: int) -> Rle | None:
    """The mask in the picture of a bitmask region: where it is opaque, or bright if it has no alpha; None if it has
    another size than the image.

    Raises:
        ValueError: it is no picture.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(str(url).partition(",")[2], validate=True))) as picture:
            if picture.size != (width, height):
                return None
            has_alpha = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
            channel = picture.convert("RGBA").getchannel("A") if has_alpha else picture.convert("L")
            return mask_to_rle(np.asarray(channel) >= 128)
    except (OSError, binascii.Error, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("the picture of a bitmask region cannot be read") from error
