"""One sheet of labeled images: outlines, colours and scores of what was accepted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import supervision as sv
from numpy.typing import NDArray
from PIL import Image

from labeler.images import read_image
from labeler.masks import rle_to_mask
from labeler.quality import QualityConfig, judge
from labeler.records import ImageRecord, Instance
from ontologies import Ontology

COLUMNS, ROWS, CELL = 4, 2, 320


def write_preview(
    records: Iterable[ImageRecord], root: Path, ontology: Ontology, quality: QualityConfig, path: Path
) -> None:
    """Write a PNG of the first images that hold objects, with what the gate accepts drawn in."""
    with_objects = (record for record in records if record.instances)
    cells = [_draw(record, root, ontology, quality) for record in islice(with_objects, COLUMNS * ROWS)]
    sheet = np.full((ROWS * CELL, COLUMNS * CELL, 3), 255, dtype=np.uint8)
    for index, cell in enumerate(cells):
        top, left = index // COLUMNS * CELL, index % COLUMNS * CELL
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
    Image.fromarray(sheet).save(path)


def _draw(record: ImageRecord, root: Path, ontology: Ontology, quality: QualityConfig) -> NDArray[np.uint8]:
    judgements = judge(record, quality, ontology.classes)
    shown = [i for i, judgement in zip(record.instances, judgements, strict=True) if judgement.verdict == "accept"]
    pixels = read_image(root / record.image_id).pixels
    if shown:
        pixels = overlay(pixels, shown, ontology)
    scale = CELL / max(pixels.shape[:2])
    size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def overlay(pixels: NDArray[np.uint8], instances: list[Instance], ontology: Ontology) -> NDArray[np.uint8]:
    """``pixels`` with masks, class names and joint scores drawn in; uint8 ``(H, W, 3)``, RGB."""
    detections = sv.Detections(
        xyxy=np.array([instance.box_xyxy for instance in instances], dtype=np.float32),
        mask=np.array([rle_to_mask(instance.rle) for instance in instances]),
        class_id=np.array([instance.class_id for instance in instances]),
    )
    labels = [f"{ontology.class_names[i.class_id]} {i.joint_score:.2f}" for i in instances]
    scene = pixels.copy()
    scene = sv.MaskAnnotator(opacity=0.35).annotate(scene, detections)
    scene = sv.PolygonAnnotator(thickness=2).annotate(scene, detections)
    annotator = sv.LabelAnnotator(text_scale=0.35, text_thickness=1, text_padding=2, smart_position=True)
    return np.asarray(annotator.annotate(scene, detections, labels=labels), dtype=np.uint8)
