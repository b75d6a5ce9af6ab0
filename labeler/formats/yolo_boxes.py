"""Writes YOLO label files for detection: boxes instead of polygons. ``labeler.formats.yolo_reader`` reads them.

The rest of the dataset is that of ``labeler.formats.yolo``.
"""

from __future__ import annotations

from labeler.geometry.masks import rle_area, rle_box_xyxy
from labeler.records import ImageRecord


def yolo_boxes(record: ImageRecord) -> str:
    """The content of an image's label file: ``class x y width height`` per instance, divided by the image's size.

    x and y are those of the centre. The box is the tight one around the mask, along pixel edges. Instances with an
    empty mask are left out. With seven decimals, edges are off by less than 0.002 pixels in images of up to 16,384.
    """
    lines = []
    for instance in record.instances:
        if rle_area(instance.rle):
            x1, y1, x2, y2 = rle_box_xyxy(instance.rle)
            centre = (x1 + x2) / 2 / record.width, (y1 + y2) / 2 / record.height
            size = (x2 - x1) / record.width, (y2 - y1) / record.height
            lines.append(f"{instance.class_id} " + " ".join(f"{value:.7f}" for value in (*centre, *size)) + "\n")
    return "".join(lines)
