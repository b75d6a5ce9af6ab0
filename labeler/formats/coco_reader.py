"""Read COCO instances JSON from any source, checking every entry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pycocotools import mask as coco_mask

from labeler.errors import FormatError
from labeler.files.documents import load_json
from labeler.geometry.masks import Rle, checked_rle, rle_area, rle_box_xyxy
from labeler.geometry.polygons import polygons_to_rle
from labeler.ground_truth import pair_images
from labeler.records import Instance
from labeler.sizes import checked_size, finite_number, shown, unicode_text
from ontologies.documents import DocumentError

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


@dataclass(frozen=True)
class CocoFile:
    """An instances file whose images and categories have been checked.

    Attributes:
        categories: the entries of the file, by class id.
        images: the entries of the file by their id, in file order.
    """

    path: AnyPath
    categories: list[dict[str, Any]]
    images: dict[int, dict[str, Any]]
    annotations: list[Any]

    def instances(self) -> Iterator[tuple[dict[str, Any], Instance]]:
        """Each annotation with its instance. Can be iterated once, since annotations are freed on the way.

        Raises:
            FormatError: an annotation is invalid.
        """
        class_ids = {category["id"]: class_id for class_id, category in enumerate(self.categories)}
        for position, annotation in enumerate(self.annotations):
            self.annotations[position] = None
            identity = annotation.get("id", f"at position {position}") if isinstance(annotation, dict) else position
            where = f"{self.path}: annotation {identity if isinstance(identity, str) else shown(identity)}"
            if not isinstance(annotation, dict):
                raise FormatError(f"{where}: {shown(annotation)} is not an annotation")
            try:
                for key in ("image_id", "category_id"):
                    if isinstance(annotation[key], (dict, list)):
                        raise ValueError(f"'{key}' is {shown(annotation[key])}, not a number")
                image = self.images.get(annotation["image_id"])
                class_id = class_ids.get(annotation["category_id"])
                if image is None:
                    raise FormatError(
                        f"{where}: names image {shown(annotation['image_id'])}, which the file does not hold"
                    )
                if class_id is None:
                    raise FormatError(
                        f"{where}: names category {shown(annotation['category_id'])}, which the file does not hold"
                    )
                name = self.categories[class_id]["name"]
                yield annotation, _instance(annotation, class_id, name, image["width"], image["height"])
            except KeyError as error:
                raise FormatError(f"{where}: {error} is missing") from error
            except (TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
                raise FormatError(f"{where}: {str(error).splitlines()[0]}") from error


def parse_coco(path: AnyPath, sizes: Callable[[], Mapping[str, tuple[int, int]]] | None = None) -> CocoFile:
    """Read the instances file ``path``. Images without ``file_name``, as in LVIS, get the path of their ``coco_url``.

    Args:
        sizes: returns (width, height) by name; called if images do not state their size.

    Raises:
        FormatError: it is not an instances file, or an image or a category is invalid.
    """
    try:
        content = load_json(path)
    except (OSError, DocumentError) as error:
        raise FormatError(f"{path}: not a COCO file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise FormatError(f"{path}: not a COCO file (expected lists 'images', 'annotations' and 'categories')")

    categories = _by_id(path, "category", content["categories"], {"name": str})
    for image in content["images"]:
        if isinstance(image, dict) and "file_name" not in image and isinstance(image.get("coco_url"), str):
            image["file_name"] = urlsplit(image["coco_url"]).path.strip("/")
    if sizes is not None:
        _add_sizes(path, content["images"], sizes)
    images = _by_id(path, "image", content["images"], {"file_name": str, "width": int, "height": int})
    for image in images.values():
        try:
            checked_size(image["width"], image["height"])
        except ValueError as error:
            raise FormatError(f"{path}: image {shown(image['id'])}: {error}") from error
    return CocoFile(path, [categories[category] for category in sorted(categories)], images, content["annotations"])


def _add_sizes(path: AnyPath, images: list[Any], sizes: Callable[[], Mapping[str, tuple[int, int]]]) -> None:
    lacking = {
        image["file_name"]: image
        for image in images
        if isinstance(image, dict)
        and isinstance(image.get("file_name"), str)
        and not image.keys() >= {"width", "height"}
    }
    known = sizes() if lacking else {}
    for name, file_name in pair_images(known, lacking).items():
        if known[name] == (0, 0):
            raise FormatError(
                f"{path}: image {file_name} states no width and height, and the labeled image could not be read; "
                "add them"
            )
        lacking[file_name]["width"], lacking[file_name]["height"] = known[name]


def _by_id(path: AnyPath, what: str, entries: list[Any], fields: dict[str, type]) -> dict[int, dict[str, Any]]:
    by_id: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        for key, kind in {"id": int, **fields}.items():
            if not isinstance(entry, dict) or type(entry.get(key)) is not kind:  # not isinstance, since True is an int
                raise FormatError(f"{path}: {what} at position {position}: expected '{key}' ({kind.__name__})")
            if kind is not str:
                continue
            if not entry[key]:
                raise FormatError(f"{path}: {what} at position {position}: '{key}' is empty")
            try:
                unicode_text(entry[key], f"'{key}'")
            except ValueError as error:
                raise FormatError(f"{path}: {what} at position {position}: {error}") from None
        if entry["id"] in by_id:
            raise FormatError(f"{path}: {what} {shown(entry['id'])} is there twice")
        by_id[entry["id"]] = entry
    return by_id


def _instance(annotation: dict[str, Any], class_id: int, name: str, width: int, height: int) -> Instance:
    rle = segmentation_to_rle(annotation["segmentation"], width, height)
    box = rle_box_xyxy(rle)
    if annotation.get("bbox") is not None:
        x, y, box_width, box_height = (finite_number(side, "a side of 'bbox'") for side in annotation["bbox"])
        box = (x, y, x + box_width, y + box_height)
    return Instance(
        class_id=class_id,
        prompt=name,
        box_xyxy=box,
        score=finite_number(annotation.get("detector_score", annotation.get("score", 1.0)), "a score"),
        mask_score=finite_number(annotation.get("mask_score", 1.0), "'mask_score'"),
        stability=1.0,
        area=rle_area(rle),
        rle=rle,
    )


def segmentation_to_rle(segmentation: Any, width: int, height: int) -> Rle:
    """The mask of an annotation's ``segmentation``: polygons, compressed RLE, or uncompressed RLE.

    Raises:
        ValueError, KeyError, TypeError: it is not a mask for an image of that size.
    """
    width, height = checked_size(width, height)
    if isinstance(segmentation, list):
        if not all(isinstance(polygon, list) for polygon in segmentation):
            raise ValueError("a polygon is not a list of three or more x, y")
        return polygons_to_rle(segmentation, height, width)
    if not isinstance(segmentation, dict):
        raise ValueError(f"'segmentation' is {shown(segmentation)}, neither polygons nor RLE")
    if segmentation["size"] != [height, width]:
        raise ValueError(f"RLE of size {shown(segmentation['size'])} on an image of size {[height, width]}")
    counts = segmentation["counts"]
    if isinstance(counts, list):
        if any(type(run) is not int or run < 0 for run in counts) or sum(counts) != height * width:
            raise ValueError(f"RLE counts do not sum to {height} x {width}")
        counts = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    return checked_rle({"size": [height, width], "counts": counts})
