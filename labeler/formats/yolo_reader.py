"""Reads YOLO datasets as ground truth: polygons, boxes, and the boxes of pose datasets.

The rules are those of Ultralytics' own loader (``ultralytics/data/utils.py``), but a file may mix boxes and polygons,
and one line that cannot be read does not cost its whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labeler.errors import FormatError, ImageError
from labeler.files.images import image_size
from labeler.formats.findings import BOX_AS_BOX, BOX_AS_MASK, Findings
from labeler.formats.yolo import label_path
from labeler.formats.yolo_layout import YoloImage, YoloLayout, read_layout
from labeler.geometry.masks import box_to_rle, mask_to_rle, rle_area
from labeler.geometry.polygons import single_polygon_to_mask
from labeler.ground_truth import GroundTruth, GroundTruthImage, GroundTruthInstance, unique_classes

TOLERANCE = 0.01  # how far outside the image a box may lie, relative to the image
BOX, FEWEST = 4, 6  # values of a box, and of the smallest polygon


def read_yolo(data_yaml: Path, boxes_as_masks: bool = False) -> GroundTruth:
    """The ground truth of a YOLO dataset, with the images of all splits.

    A name is the path below the split's folder; images of the same name in several splits have the path below the
    dataset, unless they are equal. An image without a label file has no objects. A line that cannot be read is left
    out and counted, and unmatched instances of its class are neither right nor wrong in its image. Lines that repeat
    another count once, as in Ultralytics.

    Args:
        boxes_as_masks: take the rectangle as the mask where a line is a box.

    Raises:
        FormatError: ``data.yaml`` cannot be read, or no image or no label can be.
    """
    findings = Findings()
    layout = read_layout(data_yaml, findings)
    names, class_ids = unique_classes(layout.class_names)
    for class_id, name in enumerate(layout.class_names):
        if class_ids[class_id] in class_ids[:class_id]:
            findings.add("class", "with the name of another: one class with it", name)
    reader = _Reader(data_yaml.parent.resolve(), layout, class_ids, boxes_as_masks, findings)
    by_name: dict[str, list[tuple[str, GroundTruthImage]]] = {}
    for image in layout.images:
        same = by_name.setdefault(image.name, [])
        read = reader.read(image)
        if read is not None and read not in (each for _, each in same):
            same.append((image.long_name, read))
    reader.check(data_yaml)
    images = [
        image if len(same) == 1 else replace(image, name=long_name)
        for same in by_name.values()
        for long_name, image in same
    ]
    return GroundTruth(names, tuple(images), notes=findings.lines() + reader.notes())


class _Reader:
    """Reads the labels of one image after the other, and remembers whether anything could be read."""

    def __init__(
        self, home: Path, layout: YoloLayout, class_ids: Sequence[int], boxes_as_masks: bool, findings: Findings
    ) -> None:
        self._home, self._layout, self._class_ids, self._findings = home, layout, class_ids, findings
        self._boxes_as_masks = boxes_as_masks
        self._images = self._label_files = self._lines = self._polygons = self._quadrangles = 0
        self._image_error = self._line_error = ""  # the first of each

    def read(self, image: YoloImage) -> GroundTruthImage | None:
        """The image with its objects; None if the image or its label file cannot be read."""
        labels = label_path(image.path)
        try:
            width, height = image_size(image.path)
            lines = labels.read_text(encoding="utf-8-sig").splitlines() if labels.is_file() else None
        except (ImageError, OSError, ValueError) as error:
            path, what = (image.path, str(error)) if isinstance(error, ImageError) else (labels, f"not text ({error})")
            self._findings.add("image", "that cannot be read: left out", f"{self._short(path)}: {what}")
            self._image_error = self._image_error or f"{path}: {what}"
            return None
        self._images += 1
        if lines is None:
            self._findings.add("image", "without a label file: taken as without objects", image.name)
            return GroundTruthImage(image.name, width, height)
        self._label_files += 1
        instances: list[GroundTruthInstance] = []
        unsure: set[int] = set()
        seen: set[tuple[float, ...]] = set()
        for number, line in enumerate(lines, start=1):
            where = f"{self._short(labels)}:{number}"
            try:
                values = tuple(map(float, line.split()))
                if values in seen:
                    self._findings.add("line", "equal to an earlier one of the same file: left out", where)
                elif values:
                    seen.add(values)
                    instances.append(self._object(values, width, height, where))
                    self._lines += 1
            except ValueError as error:
                self._findings.add("line", "that cannot be read: left out", f"{where}: {error}")
                self._line_error = self._line_error or f"{labels}:{number}: {error}"
                unsure |= self._class_of(line)
        return GroundTruthImage(image.name, width, height, tuple(instances), not_exhaustive=frozenset(unsure))

    def _short(self, path: Path) -> Path:
        """``path`` below the folder of ``data.yaml``, if it is there."""
        return path.relative_to(self._home) if path.is_relative_to(self._home) else path

    def check(self, data_yaml: Path) -> None:
        """Raises FormatError if no image, no label file, or none of the lines could be read."""
        if not self._images:
            raise FormatError(self._image_error or f"{data_yaml}: there are no images in the folders that it names")
        if self._line_error and not self._lines:
            raise FormatError(self._line_error)
        if not self._label_files:
            expected = label_path(self._layout.images[0].path)
            raise FormatError(f"{data_yaml}: no image has a label file; expected {expected}, for example")

    def notes(self) -> tuple[str, ...]:
        """A note if the polygons may be oriented boxes, which no file tells."""
        if not self._polygons or self._quadrangles < self._polygons:
            return ()
        return (
            f"each of the {self._polygons} polygons has four points; if these are oriented boxes, measures of masks "
            "compare masks with boxes",
        )

    def _class_of(self, line: str) -> set[int]:
        """The class of a line that cannot be read; all classes if it names none of the dataset."""
        try:
            return {self._class_ids[_class_id(float(line.split()[0]), len(self._class_ids))]}
        except ValueError:
            return set(self._class_ids)

    def _object(self, values: Sequence[float], width: int, height: int, where: str) -> GroundTruthInstance:
        class_id = self._class_ids[_class_id(values[0], len(self._class_ids))]
        coordinates = np.array(values[1:], dtype=np.float64)
        if self._layout.keypoint_values and coordinates.size == BOX + self._layout.keypoint_values:
            self._findings.add("line", "with keypoints: these are left out", where)
            coordinates = coordinates[:BOX]
        if coordinates.size == BOX + 1:
            self._findings.add("line", "with a confidence, as predictions have: it is left out", where)
            coordinates = coordinates[:-1]
        if coordinates.size % 2 or coordinates.size < BOX:
            raise ValueError(
                f"{coordinates.size} coordinates; expected 4 (a box), or x, y of at least three points; lines with "
                "keypoints need kpt_shape in data.yaml"
            )
        _check_inside(coordinates)
        size = np.array([width, height])
        if coordinates.size == BOX:
            (centre, sides) = coordinates.reshape(2, 2) * size
            x1, y1, x2, y2 = np.concatenate((centre - sides / 2, centre + sides / 2)).tolist()
            rle, box, area = box_to_rle((x1, y1, x2, y2), width, height), (x1, y1, x2, y2), float(sides.prod())
            self._findings.add("line", BOX_AS_MASK if self._boxes_as_masks else BOX_AS_BOX, where)
            return GroundTruthInstance(class_id, rle, False, box, area, box_only=not self._boxes_as_masks)
        self._polygons += 1
        self._quadrangles += coordinates.size == 2 * 4
        rle = mask_to_rle(single_polygon_to_mask(coordinates.reshape(-1, 2) * size, height, width))
        if not rle_area(rle):
            raise ValueError("the polygon has no area in the image")
        return GroundTruthInstance(class_id, rle)


def _class_id(value: float, count: int) -> int:
    if value not in range(count):
        raise ValueError(f"class {value:g}, but data.yaml names {count} classes")
    return int(value)


def _check_inside(coordinates: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    """Raises ValueError if the box, or the box around the polygon, is further outside than Ultralytics allows."""
    box = coordinates
    if coordinates.size >= FEWEST:
        points = coordinates.reshape(-1, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        box = np.concatenate(((low + high) / 2, high - low))
    if not (box[:2] >= -TOLERANCE).all() or not (box[2:] >= 0).all() or not (box <= 1 + TOLERANCE).all():
        raise ValueError("coordinates outside [0, 1]; divide them by the image's width and height")
