"""Reads ground truth in any supported format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import FormatError
from labeler.files.storage import as_local, info, locate, scan
from labeler.formats.coco_file import read_coco
from labeler.formats.mask_images import VOC_MASKS, is_mask_folder, read_mask_images
from labeler.formats.voc_reader import SUFFIX, has_voc, read_voc
from labeler.formats.yolo_reader import read_yolo
from labeler.ground_truth import GroundTruth

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

YAML = (".yaml", ".yml")
Sizes = Callable[[], Mapping[str, tuple[int, int]]]


def read_ground_truth(
    path: str | AnyPath | Path,
    sizes: Sizes | None = None,
    boxes_as_masks: bool = False,
) -> GroundTruth:
    """Read the ground truth at ``path``, which is one of:

    - a ``.json`` file of COCO or LVIS instances, with polygons, RLE (compressed or not), boxes and crowds, or a folder
      that contains one whose name ends in ``.coco.json``; see ``labeler.formats.coco_file``.
    - a ``data.yaml`` of YOLO, or a folder that contains one; see ``labeler.formats.yolo_reader``.
    - a folder of mask images; see ``labeler.formats.mask_images``.
    - an ``.xml`` file of Pascal VOC, or a folder of them, if it holds none of the above; see
      ``labeler.formats.voc_reader``.

    Args:
        path: a path or URI.
        sizes: returns (width, height) of images by name. It is called only if a COCO file does not state sizes.
        boxes_as_masks: take the rectangle as the mask where there is a box and no mask.

    Raises:
        FormatError: there is nothing at ``path``, it has another format, or it is damaged.
    """
    location = locate(path)
    entry = info(location)
    if entry is None:
        raise FormatError(
            f"{location}: no such ground truth; give a COCO .json, a YOLO data.yaml, Pascal VOC XML or a folder of "
            "mask images"
        )
    if entry.is_folder:
        return _read_folder(location, sizes, boxes_as_masks)
    return _read_file(location, sizes, boxes_as_masks)


def _read_file(path: AnyPath, sizes: Sizes | None, boxes_as_masks: bool) -> GroundTruth:
    if path.suffix.lower() == SUFFIX:
        return read_voc(path, boxes_as_masks)
    if path.suffix.lower() not in YAML:
        return read_coco(path, sizes, boxes_as_masks)
    if (file := as_local(path)) is None:
        raise FormatError(f"{path}: a YOLO dataset is read from a local folder; copy it there")
    return read_yolo(file, boxes_as_masks)


def _read_folder(folder: AnyPath, sizes: Sizes | None, boxes_as_masks: bool) -> GroundTruth:
    files = sorted(each.name for each in scan(folder) if not each.is_folder)
    settings = [name for name in files if name.lower().endswith(YAML)]
    settings = ["data.yaml"] if "data.yaml" in settings else settings
    for named in (settings, [name for name in files if name.lower().endswith(".coco.json")]):
        if len(named) > 1:
            raise FormatError(f"{folder}: ground truth in {len(named)} files; name one of {', '.join(named[:5])}")
        if named:
            return _read_file(folder / named[0], sizes, boxes_as_masks)
    has_masks = (found := info(folder / VOC_MASKS)) is not None and found.is_folder
    if not has_masks and has_voc(folder):  # the images may be beside the XML files
        return read_voc(folder, boxes_as_masks)
    if is_mask_folder(folder):
        return read_mask_images(folder)
    raise FormatError(f"{folder}: no ground truth in it; give a COCO .json, a YOLO data.yaml, Pascal VOC XML or masks")
