"""Reads COCO and LVIS instances files as ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from labeler.errors import FormatError
from labeler.files.documents import load_json
from labeler.formats.coco_reader import read_object
from labeler.formats.coco_values import identity, order, reason, whole
from labeler.formats.findings import Findings
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance, unique_classes
from labeler.image_pairs import pair_images
from labeler.sizes import checked_size, shown, unicode_text
from ontologies.coco_categories import real_categories
from ontologies.documents import DocumentError

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

Id = int | str
Entries = dict[Id, dict[str, Any]]
Sizes = Callable[[], Mapping[str, tuple[int, int]]]


def read_coco(path: AnyPath, sizes: Sizes | None = None, boxes_as_masks: bool = False) -> GroundTruth:
    """The ground truth in the instances file ``path``; images are ordered by id and classes by category id.

    An annotation that cannot be read is left out and counted, and unmatched instances of its class are neither right
    nor wrong in its image. Categories of the same name are one class.

    Args:
        sizes: returns (width, height) by name; called if images do not state their size. An image whose size remains
            unknown has the size (0, 0) and no objects.
        boxes_as_masks: take the box as the mask where an annotation has no mask.

    Raises:
        FormatError: it is not an instances file, an image or a category is invalid, or no annotation can be read.
    """
    content = _content(path)
    findings = Findings()
    images = _images(path, content["images"], sizes)
    names, class_ids, frequencies = _classes(path, content, findings)
    annotations = _Annotations(images, class_ids, boxes_as_masks, findings)
    try:
        annotations.add(content["annotations"])
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error
    truth = []
    for image_id in sorted(images, key=order):
        image, instances = images[image_id], tuple(annotations.instances.pop(image_id))
        # In LVIS, each image was searched for a few classes only; in COCO, each was searched for all.
        negative = _class_ids(path, image, "neg_category_ids", class_ids, findings)
        absent = None if image.get("neg_category_ids") is None else negative
        more = _class_ids(path, image, "not_exhaustive_category_ids", class_ids, findings)
        more |= annotations.unsure[image_id]
        for _ in range(len(instances) - len({(each.class_id, each.rle["counts"], each.box) for each in instances})):
            findings.add("annotation", "equal to another: each counts", image["file_name"])
        truth.append(GroundTruthImage(image["file_name"], image["width"], image["height"], instances, absent, more))
    return GroundTruth(names, tuple(_named_once(path, truth, findings)), frequencies, notes=findings.lines())


def _content(path: AnyPath) -> dict[str, Any]:
    try:
        content = load_json(path)
    except (OSError, DocumentError) as error:
        raise FormatError(f"{path}: not a COCO file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise FormatError(f"{path}: not a COCO file (expected lists 'images', 'annotations' and 'categories')")
    return content


def _images(path: AnyPath, entries: list[Any], sizes: Sizes | None) -> Entries:
    for image in entries:
        if isinstance(image, dict) and not image.get("file_name") and isinstance(image.get("coco_url"), str):
            image["file_name"] = image["coco_url"].partition("://")[2].partition("/")[2]
    images = _by_id(path, "image", entries, "file_name")
    lacking = {}
    for image_id, image in images.items():
        image["width"], image["height"] = whole(image.get("width")), whole(image.get("height"))
        if sizes is not None and (image["width"] in (None, 0) or image["height"] in (None, 0)):
            image["width"] = image["height"] = 0
            lacking[image["file_name"]] = image
            continue
        try:
            checked_size(image["width"], image["height"])
        except ValueError as error:
            raise FormatError(f"{path}: image {shown(image_id)}: {error}") from error
    known = sizes() if sizes is not None and lacking else {}
    for labeled, name in pair_images(known, lacking).items():
        if known[labeled] == (0, 0):
            raise FormatError(
                f"{path}: image {name} states no width and height, and the labeled image could not be read; add them"
            )
        lacking[name]["width"], lacking[name]["height"] = known[labeled]
    return images


def _classes(
    path: AnyPath, content: dict[str, Any], findings: Findings
) -> tuple[tuple[str, ...], dict[Id, int], tuple[str, ...]]:
    """Class names, the class id of each category id, and frequencies as in LVIS, if all categories state theirs."""
    categories = _by_id(path, "category", content["categories"], "name")
    used = set()
    for annotation in content["annotations"]:
        try:
            used.add(identity(annotation["category_id"], "category_id"))
        except (KeyError, TypeError, ValueError):
            continue  # it is refused, or left out, with the other annotations
    kept = real_categories([{**entry, "id": category} for category, entry in categories.items()], used)
    for category in categories.keys() - {entry["id"] for entry in kept}:
        findings.add("category", "that only groups the others: no class", categories[category]["name"])
    kept = sorted(kept, key=lambda entry: order(entry["id"]))
    names, ids = unique_classes(entry["name"] for entry in kept)
    for position, entry in enumerate(kept):
        if ids[position] in ids[:position]:
            findings.add("category", "with the name of another: one class with it", entry["name"])
    class_ids = {entry["id"]: class_id for entry, class_id in zip(kept, ids, strict=True)}
    frequencies = [str(kept[ids.index(class_id)].get("frequency", "")) for class_id in range(len(names))]
    return names, class_ids, tuple(frequencies) if all(frequencies) else ()


def _by_id(path: AnyPath, what: str, entries: list[Any], name: str) -> Entries:
    """The entries by their ids, each of which must have the text ``name``; equal entries are one."""
    by_id: Entries = {}
    for position, entry in enumerate(entries):
        where = f"{path}: {what} at position {position}"
        if not isinstance(entry, dict) or "id" not in entry:
            raise FormatError(f"{where}: expected 'id' and '{name}'")
        try:
            identifier = identity(entry["id"], "id")
            if not isinstance(entry.get(name), str):
                raise ValueError(f"expected '{name}' (text)")
            if not entry[name]:
                raise ValueError(f"'{name}' is empty")
            unicode_text(entry[name], f"'{name}'")
        except ValueError as error:
            raise FormatError(f"{where}: {error}") from None
        if by_id.get(identifier, entry) != entry:
            raise FormatError(f"{path}: {what} {shown(entry['id'])} is there twice, with different content")
        by_id[identifier] = entry
    return by_id


class _Annotations:
    """Turns annotations into objects, image by image.

    Attributes:
        instances: the objects of each image.
        unsure: the classes of which an image may have more objects than were read.
    """

    def __init__(self, images: Entries, class_ids: Mapping[Id, int], boxes_as_masks: bool, findings: Findings) -> None:
        self._images, self._class_ids = images, class_ids
        self._boxes_as_masks, self._findings = boxes_as_masks, findings
        self.instances: dict[Id, list[GroundTruthInstance]] = {image_id: [] for image_id in images}
        self.unsure: dict[Id, set[int]] = {image_id: set() for image_id in images}

    def add(self, annotations: list[Any]) -> None:
        """Add each annotation to its image. Annotations are freed on the way.

        Raises:
            FormatError: there are annotations, and none can be read.
        """
        read, first = 0, ""
        for position, annotation in enumerate(annotations):
            annotations[position] = None
            name = annotation.get("id", f"at position {position}") if isinstance(annotation, dict) else position
            name = name if isinstance(name, str) else shown(name)
            try:
                self._add(annotation, name)
                read += 1
            except FormatError as error:
                first = first or f"{name}: {error}"
        if first and not read:
            raise FormatError(f"annotation {first}")

    def _add(self, annotation: Any, name: str) -> None:
        image_id = class_id = None
        try:
            if not isinstance(annotation, dict):
                raise ValueError(f"{shown(annotation)} is not an annotation")
            image_id = identity(annotation["image_id"], "image_id")
            category_id = identity(annotation["category_id"], "category_id")
            if image_id not in self._images:
                raise self._left_out("image", image_id, name)
            class_id = self._class_ids.get(category_id)
            if class_id is None:
                raise self._left_out("category", category_id, name)
            size = self._images[image_id]["width"], self._images[image_id]["height"]
            if size != (0, 0):
                found = read_object(annotation, class_id, size, self._boxes_as_masks, name, self._findings)
                self.instances[image_id].append(found)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            self._findings.add("annotation", "that cannot be read: left out", f"{name}: {reason(error)}")
            if image_id in self.unsure:
                self.unsure[image_id].update(self._class_ids.values() if class_id is None else [class_id])
            raise FormatError(reason(error)) from error

    def _left_out(self, what: str, identifier: Id, name: str) -> FormatError:
        self._findings.add("annotation", f"whose {what} is not in the file: left out", name)
        return FormatError(f"names {what} {shown(identifier)}, which the file does not hold")


def _class_ids(
    path: AnyPath, image: dict[str, Any], key: str, class_ids: Mapping[Id, int], findings: Findings
) -> frozenset[int]:
    """The classes that ``key`` lists; those that are not in the file are counted."""
    listed = [] if image.get(key) is None else image[key]
    try:
        if not isinstance(listed, list):
            raise ValueError
        categories = [identity(each, key) for each in listed]
    except ValueError:
        raise FormatError(f"{path}: image {image['id']}: '{key}' must list category ids") from None
    if not class_ids.keys() >= set(categories):
        findings.add("image", f"with '{key}' that are not in the file: these are left out", image["file_name"])
    return frozenset(class_ids[each] for each in categories if each in class_ids)


def _named_once(path: AnyPath, images: list[GroundTruthImage], findings: Findings) -> list[GroundTruthImage]:
    """The images whose name no other has.

    Raises:
        FormatError: there are images, and none has a name of its own.
    """
    counts: dict[str, int] = {}
    for image in images:
        if not image.name.strip("/\\."):
            raise FormatError(f"{path}: {image.name!r} is not the name of an image")
        counts[image.name] = counts.get(image.name, 0) + 1
    for name, count in counts.items():
        for _ in range(count if count > 1 else 0):
            findings.add("image", "with the name of another: left out", name)
    if counts and min(counts.values()) > 1:
        raise FormatError(f"{path}: the image {next(iter(counts))} is listed twice")
    return [image for image in images if counts[image.name] == 1]
