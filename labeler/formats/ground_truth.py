"""Reads ground truth in any supported format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from labeler.errors import FormatError
from labeler.files.storage import as_local, info, locate, scan
from labeler.formats.coco_reader import parse_coco
from labeler.formats.mask_images import is_mask_folder, read_mask_images
from labeler.formats.yolo import read_yolo
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance
from labeler.sizes import finite_number, shown

if TYPE_CHECKING:
    from typing import Any

    from labeler.files.storage import AnyPath

YAML = (".yaml", ".yml")


def read_ground_truth(
    path: str | AnyPath | Path, sizes: Callable[[], Mapping[str, tuple[int, int]]] | None = None
) -> GroundTruth:
    """Read the ground truth at ``path``, which is one of:

    - a ``.json`` file of COCO or LVIS instances, with polygons, RLE (compressed or not) and crowds. Images are ordered
      by image id and classes by category id, as in pycocotools.
    - a ``data.yaml`` of YOLO-seg, or a folder that contains one. All splits are read.
    - a folder of mask images; see ``labeler.formats.mask_images``.

    Args:
        path: a path or URI.
        sizes: returns (width, height) of images by name. It is called only if a COCO file does not state sizes.

    Raises:
        FormatError: there is nothing at ``path``, it has another format, or it is damaged.
    """
    location = locate(path)
    entry = info(location)
    if entry is None:
        raise FormatError(
            f"{location}: no such ground truth; give a COCO .json, a YOLO data.yaml or a folder of mask images"
        )
    if not entry.is_folder:
        return _read_yolo(location) if location.suffix.lower() in YAML else _read_coco(location, sizes)
    files = sorted(each.name for each in scan(location) if not each.is_folder)
    if settings := [name for name in files if name.lower().endswith(YAML)]:
        return _read_yolo(location / ("data.yaml" if "data.yaml" in settings else settings[0]))
    if is_mask_folder(location):
        return read_mask_images(location)
    raise FormatError(f"{location}: no ground truth in it; give a COCO .json, a YOLO data.yaml or mask images")


def _read_coco(path: AnyPath, sizes: Callable[[], Mapping[str, tuple[int, int]]] | None) -> GroundTruth:
    file = parse_coco(path, sizes)
    class_ids = {category["id"]: class_id for class_id, category in enumerate(file.categories)}
    instances: dict[int, list[GroundTruthInstance]] = {image_id: [] for image_id in file.images}
    for annotation, instance in file.instances():
        try:
            area = finite_number(annotation.get("area", instance.area), "it")
        except ValueError as error:
            raise FormatError(f"{path}: annotation {shown(annotation.get('id'))}: area: {error}") from error
        crowd = bool(annotation.get("iscrowd", 0))
        instances[annotation["image_id"]].append(
            GroundTruthInstance(instance.class_id, instance.rle, crowd, instance.box_xyxy, area)
        )
    images = []
    for image_id, image in sorted(file.images.items()):
        # In LVIS, each image was searched for a few classes only; in COCO, each was searched for all.
        absent = _class_ids(path, image, "neg_category_ids", class_ids) if "neg_category_ids" in image else None
        not_exhaustive = _class_ids(path, image, "not_exhaustive_category_ids", class_ids)
        name, true = image["file_name"], tuple(instances.pop(image_id))
        images.append(GroundTruthImage(name, image["width"], image["height"], true, absent, not_exhaustive))
    _check_names(path, images)
    frequencies = tuple(str(category.get("frequency", "")) for category in file.categories)
    return GroundTruth(
        tuple(category["name"] for category in file.categories),
        tuple(images),
        frequencies if all(frequencies) else (),
    )


def _class_ids(path: AnyPath, image: dict[str, Any], key: str, class_ids: Mapping[int, int]) -> frozenset[int]:
    listed = image.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(each, int) and each in class_ids for each in listed):
        raise FormatError(f"{path}: image {image['id']}: '{key}' must list category ids of the file")
    return frozenset(class_ids[each] for each in listed)


def _read_yolo(path: AnyPath) -> GroundTruth:
    if (file := as_local(path)) is None:
        raise FormatError(f"{path}: a YOLO dataset is read from a local folder; copy it there")
    class_names, records = read_yolo(file)
    images: dict[str, GroundTruthImage] = {}
    for record in records:
        instances = tuple(GroundTruthInstance(each.class_id, each.rle) for each in record.instances)
        image = GroundTruthImage(record.image_id, record.width, record.height, instances)
        # Two splits may share a folder: equal images count once.
        if images.setdefault(image.name, image) != image:
            raise FormatError(
                f"{path}: {image.name} is in two splits, with different objects; leave one split in the file"
            )
    return GroundTruth(tuple(class_names), tuple(images.values()))


def _check_names(path: AnyPath, images: list[GroundTruthImage]) -> None:
    seen: set[str] = set()
    for image in images:
        if not PurePosixPath(image.name).stem:
            raise FormatError(f"{path}: {image.name!r} is not the name of an image")
        if image.name in seen:
            raise FormatError(f"{path}: the image {image.name} is listed twice")
        seen.add(image.name)
