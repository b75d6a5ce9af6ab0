"""Records to COCO instances JSON, and back."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pycocotools import mask as coco_mask

from labeler.errors import FormatError, UsageError
from labeler.files.storage import naming, read_bytes
from labeler.geometry.masks import Rle, checked_rle, rle_area, rle_box_xyxy
from labeler.geometry.polygons import mask_to_polygons, polygons_to_rle
from labeler.ground_truth import pair_images
from labeler.records import ImageRecord, Instance
from labeler.sizes import checked_size, finite_number, shown, unicode_text

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SCORE_DIGITS = 6


class CocoWriter:
    """A COCO instances file, written an image at a time; it is there whole or not at all, and memory does not grow.

    Image and annotation ids count from 1 in the order given; a category's id is the class's position + 1, since
    many COCO tools keep 0 for the background. ``score`` is the joint score, for ranking; ``detector_score`` and
    ``mask_score`` are its two factors. Instances with an empty mask are left out.

    Args:
        path: the JSON file; its folder exists. It appears when the writer is left without an error.
        class_names: by class id.
        segmentation: ``rle``, or ``polygon`` along pixel edges; ``pycocotools`` reads the same mask from both.
    """

    def __init__(self, path: Path, class_names: Sequence[str], segmentation: Literal["rle", "polygon"] = "rle") -> None:
        self._path = path
        self._class_names = class_names
        self._segmentation = segmentation
        self._temporary = path.with_name(f".{path.name}.partial")
        self._images = self._annotations = 0
        self._file = open(self._temporary, "w", encoding="ascii")  # noqa: SIM115 closed by __exit__
        # Annotations come after the images in the file, so they wait in one of their own.
        self._spool = tempfile.TemporaryFile("w+", dir=path.parent)  # noqa: SIM115 likewise
        self._file.write('{"images": [')

    def add(self, record: ImageRecord, file_name: str | None = None) -> None:
        """Append an image and its instances; ``file_name`` is the record's ``image_id`` unless given.

        Raises:
            UsageError: an instance's class id is not in ``class_names``.
        """
        with naming(self._path):
            self._add(record, record.image_id if file_name is None else file_name)

    def _add(self, record: ImageRecord, file_name: str) -> None:
        self._images += 1
        image = {
            "id": self._images,
            "file_name": file_name,
            "width": record.width,
            "height": record.height,
        }
        self._file.write(_item(image, self._images))
        for annotation in _annotations(record, self._class_names, self._segmentation):
            self._annotations += 1
            identity = {"id": self._annotations, "image_id": self._images}
            self._spool.write(_item(identity | annotation, self._annotations))

    def __enter__(self) -> CocoWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            with naming(self._path), self._file, self._spool:
                if error is None:
                    self._finish()
            if error is None:
                os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        self._file.write('\n], "annotations": [')
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, self._file)
        self._file.write('\n], "categories": [')
        for position, name in enumerate(self._class_names, start=1):
            self._file.write(_item({"id": position, "name": name, "supercategory": ""}, position))
        self._file.write("\n]}\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def write_coco(
    path: Path,
    records: Iterable[ImageRecord],
    class_names: Sequence[str],
    *,
    segmentation: Literal["rle", "polygon"] = "rle",
) -> None:
    """Write ``records``, less those with status ``error``, by a ``CocoWriter``."""
    with CocoWriter(path, class_names, segmentation) as writer:
        for record in records:
            if record.status != "error":
                writer.add(record)


def read_coco(path: Path) -> tuple[list[str], list[ImageRecord]]:
    """Class names by class id, and one record an image, in the file's order.

    Reads any instances file: class ids are the places of the category ids in rising order; segmentations may be
    polygons or RLE, compressed or not, crowds like the rest. ``image_id`` is ``file_name``. What COCO has no word
    for is 1 for a score and the class name for the prompt; the box is ``bbox``, or the mask's where there is none.

    Raises:
        FormatError: the file does not hold together; the message names the entry.
    """
    file = parse_coco(path)
    instances: dict[int, list[Instance]] = {image: [] for image in file.images}
    for annotation, instance in file.instances():
        instances[annotation["image_id"]].append(instance)
    return [category["name"] for category in file.categories], [
        ImageRecord(
            image["file_name"], image["width"], image["height"], digest="", instances=tuple(instances[identity])
        )
        for identity, image in file.images.items()
    ]


@dataclass(frozen=True)
class CocoFile:
    """An instances file whose images and categories were found sound.

    Attributes:
        categories: the file's entries, by class id.
        images: the file's entries by their id, in its order.
    """

    path: AnyPath
    categories: list[dict[str, Any]]
    images: dict[int, dict[str, Any]]
    annotations: list[Any]

    def instances(self) -> Iterator[tuple[dict[str, Any], Instance]]:
        """Each annotation with the instance it describes; to be asked for once, since what was read is let go.

        Raises:
            FormatError: an annotation does not hold together.
        """
        class_ids = {category["id"]: class_id for class_id, category in enumerate(self.categories)}
        for position, annotation in enumerate(self.annotations):
            self.annotations[position] = None
            identity = annotation.get("id", f"at position {position}") if isinstance(annotation, dict) else position
            where = f"{self.path}: annotation {identity if isinstance(identity, str) else shown(identity)}"
            if not isinstance(annotation, dict):
                raise FormatError(f"{where}: {shown(annotation)} is no annotation")
            try:
                for key in ("image_id", "category_id"):
                    if isinstance(annotation[key], (dict, list)):
                        raise ValueError(f"'{key}' is {shown(annotation[key])} and no number")
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
    """The instances file ``path``; images that state a ``coco_url`` alone, as in LVIS, get its path for a name.

    Args:
        sizes: (width, height) by name, asked for images that do not state their own.

    Raises:
        FormatError: it is none, or its images or categories do not hold together.
    """
    try:
        content = json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError) as error:
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


def _item(entry: dict[str, Any], number: int) -> str:
    return ("\n" if number == 1 else ",\n") + json.dumps(entry)


def _annotations(record: ImageRecord, class_names: Sequence[str], segmentation: str) -> Iterator[dict[str, Any]]:
    for instance in record.instances:
        if not 0 <= instance.class_id < len(class_names):
            raise UsageError(
                f"{record.image_id}: class id {instance.class_id}, but there are {len(class_names)} classes"
            )
        area = rle_area(instance.rle)
        if not area:
            continue
        x1, y1, x2, y2 = rle_box_xyxy(instance.rle)
        rle = {"size": instance.rle["size"], "counts": instance.rle["counts"].decode("ascii")}
        yield {
            "category_id": instance.class_id + 1,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": area,
            "iscrowd": 0,
            "score": round(instance.joint_score, SCORE_DIGITS),
            "detector_score": round(instance.score, SCORE_DIGITS),
            "mask_score": round(instance.mask_score, SCORE_DIGITS),
            "segmentation": rle if segmentation == "rle" else mask_to_polygons(instance.rle),
        }


def _by_id(path: AnyPath, what: str, entries: list[Any], fields: dict[str, type]) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for position, entry in enumerate(entries):
        for key, kind in {"id": int, **fields}.items():
            if not isinstance(entry, dict) or type(entry.get(key)) is not kind:  # a bool is no int here
                raise FormatError(f"{path}: {what} at position {position}: expected '{key}' ({kind.__name__})")
            if kind is not str:
                continue
            if not entry[key]:
                raise FormatError(f"{path}: {what} at position {position}: '{key}' is empty")
            try:
                unicode_text(entry[key], f"'{key}'")
            except ValueError as error:
                raise FormatError(f"{path}: {what} at position {position}: {error}") from None
        if entry["id"] in found:
            raise FormatError(f"{path}: {what} {shown(entry['id'])} is there twice")
        found[entry["id"]] = entry
    return found


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
    """The mask of an annotation's ``segmentation``: polygons, or RLE compressed or not.

    Raises:
        ValueError, KeyError, TypeError: it is none for an image of that size.
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
