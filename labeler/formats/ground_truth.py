"""Reads ground truth in any supported format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import FormatError
from labeler.files.storage import as_local, info, locate, scan
from labeler.formats.coco_file import read_coco
from labeler.formats.mask_images import is_mask_folder, read_mask_images
from labeler.formats.yolo import read_yolo
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

YAML = (".yaml", ".yml")


def read_ground_truth(
    path: str | AnyPath | Path,
    sizes: Callable[[], Mapping[str, tuple[int, int]]] | None = None,
    boxes_as_masks: bool = False,
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
        return _read_yolo(location) if location.suffix.lower() in YAML else read_coco(location, sizes, boxes_as_masks)
    files = sorted(each.name for each in scan(location) if not each.is_folder)
    if settings := [name for name in files if name.lower().endswith(YAML)]:
        return _read_yolo(location / ("data.yaml" if "data.yaml" in settings else settings[0]))
    if is_mask_folder(location):
        return read_mask_images(location)
    raise FormatError(f"{location}: no ground truth in it; give a COCO .json, a YOLO data.yaml or mask images")


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
