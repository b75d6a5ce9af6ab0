"""Reads and writes YOLO-seg datasets: label files and ``data.yaml``.

A label line is ``class x1 y1 x2 y2 ...``: one closed polygon through the mask's border pixels, with coordinates divided
by the image size. Readers multiply them by the size, truncate (Ultralytics) or round (supervision) them to whole
pixels, and call ``cv2.fillPoly``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from labeler.errors import FormatError, ImageError
from labeler.files.documents import load_yaml
from labeler.files.images import image_size
from labeler.files.listing import find_images
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.geometry.polygons import mask_to_single_polygon, single_polygon_to_mask
from labeler.records import ImageRecord, Instance
from ontologies.documents import DocumentError

# Both truncating and rounding turn x + 0.45 into x; with 0.5, the pixel's centre, rounding would give x + 1. With six
# decimals, this holds for images of up to 80,000 pixels per side.
INSIDE_PIXEL = 0.45
SPLITS = ("train", "val", "test")
SAME_NAMES = {"train": "train", "val": "val"}


def label_path(image_path: Path) -> Path:
    """The path at which Ultralytics looks for an image's labels.

    The last folder named ``images`` becomes ``labels``, and the suffix becomes ``.txt``. Images that differ only in
    their suffix would share a label file, so they need different names.
    """
    folders = list(image_path.parent.parts)
    if "images" in folders:
        folders[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return Path(*folders, image_path.name).with_suffix(".txt")


def yolo_labels(record: ImageRecord) -> str:
    """The content of an image's label file: one line per instance. Instances with an empty mask are left out."""
    size = np.array([record.width, record.height])
    lines = []
    for instance in record.instances:
        polygon = mask_to_single_polygon(instance.rle)
        if len(polygon):
            values = ((polygon + INSIDE_PIXEL) / size).ravel().tolist()
            lines.append(f"{instance.class_id}" + (" %.6f" * len(values)) % tuple(values) + "\n")
    return "".join(lines)


def write_yolo_labels(path: Path, record: ImageRecord) -> None:
    """Write ``yolo_labels`` to the file at ``path`` (see ``label_path``), and create its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yolo_labels(record), encoding="ascii", newline="\n")


def data_yaml(class_names: Sequence[str], folders: Mapping[str, str] = SAME_NAMES) -> str:
    """The content of Ultralytics' ``data.yaml``.

    Without the key ``path``, Ultralytics looks for the splits next to the file, so the dataset can be moved.
    Ultralytics needs ``train`` and ``val``; both may name the same folder.

    Args:
        class_names: by class id.
        folders: split -> its folder below ``images``, which is next to the file.
    """
    content: dict[str, Any] = {split: f"images/{folder}" for split, folder in folders.items()}
    content["names"] = dict(enumerate(class_names))
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=float("inf"))


def read_yolo(data_yaml: Path) -> tuple[list[str], list[ImageRecord]]:
    """Read a YOLO-seg dataset: the class names by class id, and a record for each image of each split.

    ``image_id`` is the path below the split's folder; images are sorted by it within their split. An image without a
    label file has no objects. Lines with four coordinates are boxes (centre and size), which become rectangular masks.
    All scores are 1, and the prompt is the class name.

    Raises:
        FormatError: a file cannot be read or has another format; the message names the file, and the line.
    """
    try:
        content = load_yaml(data_yaml)
    except (OSError, DocumentError) as error:
        raise FormatError(f"{data_yaml}: not a data.yaml ({' '.join(str(error).split())})") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or set(names) != set(range(len(names))):
        raise FormatError(f"{data_yaml}: 'names' must be a list, or a mapping of 0, 1, 2, ... to names")
    class_names = [str(names[class_id]) for class_id in range(len(names))]

    records: list[ImageRecord] = []
    for split in SPLITS:
        folders = content.get(split) or []
        for folder in folders if isinstance(folders, list) else [folders]:
            if not isinstance(folder, str) or not isinstance(content.get("path") or "", str):
                raise FormatError(f"{data_yaml}: 'path' and '{split}' must name folders")
            root = data_yaml.parent / (content.get("path") or "") / folder
            if not root.is_dir():
                raise FormatError(f"{data_yaml}: {split} is {folder}, but there is no folder {root}")
            records += [_read_image(root, image_id, class_names) for image_id in find_images(root).image_ids]
    return class_names, records


def _read_image(root: Path, image_id: str, class_names: list[str]) -> ImageRecord:
    try:
        width, height = image_size(root / image_id)
    except ImageError as error:
        raise FormatError(f"{root / image_id}: {error}") from error
    instances = tuple(_read_labels(label_path(root / image_id), width, height, class_names))
    return ImageRecord(image_id, width, height, digest="", instances=instances)


def _read_labels(path: Path, width: int, height: int, class_names: list[str]) -> Iterator[Instance]:
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except ValueError as error:
        raise FormatError(f"{path}: not a text file ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield _read_line(line, width, height, class_names)
            except ValueError as error:
                raise FormatError(f"{path}:{number}: {error}") from error


def _read_line(line: str, width: int, height: int, class_names: list[str]) -> Instance:
    class_id, *values = map(float, line.split())
    if class_id not in range(len(class_names)):
        raise ValueError(f"class {class_id:g}, but data.yaml names {len(class_names)} classes")
    if len(values) % 2 or len(values) < 4:
        raise ValueError(f"{len(values)} coordinates; expected 4 (a box), or x, y of at least three points")
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("coordinates outside [0, 1]; divide them by the image's width and height")
    points = np.array(values).reshape(-1, 2)
    size = np.array([width, height])
    mask = _rectangle(points, size) if len(values) == 4 else single_polygon_to_mask(points * size, height, width)
    rle = mask_to_rle(mask)
    return Instance(
        class_id=int(class_id),
        prompt=class_names[int(class_id)],
        box_xyxy=rle_box_xyxy(rle),
        score=1.0,
        mask_score=1.0,
        stability=1.0,
        area=rle_area(rle),
        rle=rle,
    )


def _rectangle(box: npt.NDArray[np.float64], size: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """A box as a mask of at least one pixel.

    Args:
        box: ``(2, 2)``, centre and sides relative to the image.
        size: width and height in pixels.
    """
    centre, sides = box * size
    x1, y1 = np.clip(np.rint(centre - sides / 2).astype(np.int64), 0, size - 1)
    x2, y2 = np.maximum(np.rint(centre + sides / 2).astype(np.int64), (x1 + 1, y1 + 1))
    mask = np.zeros(tuple(size[::-1]), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask
