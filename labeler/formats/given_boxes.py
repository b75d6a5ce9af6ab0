"""Boxes that somebody has already drawn, to be given masks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.errors import FormatError
from labeler.files.storage import info, locate
from labeler.formats.findings import Findings
from labeler.formats.ground_truth import read_ground_truth
from labeler.ground_truth import GroundTruthImage
from ontologies.ontology import SEPARATORS


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """The boxes of one image.

    Attributes:
        width, height: of the image, in pixels, as the file states them.
        boxes_xyxy: float32 ``(n, 4)``, pixels, clipped to the image.
        class_ids: int64 ``(n,)``, indices in ``GivenBoxes.class_names``.
    """

    width: int
    height: int
    boxes_xyxy: NDArray[np.float32]
    class_ids: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class GivenBoxes:
    """All boxes of a file.

    Attributes:
        class_names: by class id.
        images: by name in the file, a POSIX path.
        notes: what was left out or not read as it stands; one line each.
        digest: hexadecimal; of everything above but the notes.
    """

    class_names: tuple[str, ...]
    images: Mapping[str, ImageBoxes]
    notes: tuple[str, ...]
    digest: str


_last_read: dict[tuple[str, str], GivenBoxes] = {}


def boxes_with_digest(path: str, digest: str) -> GivenBoxes:
    """As ``read_given_boxes``, for boxes that were read before, in this process or in another one.

    Raises:
        FormatError: also if the boxes are no longer those of ``digest``.
    """
    if (path, digest) in _last_read:
        return _last_read[path, digest]
    boxes = read_given_boxes(path)
    if boxes.digest != digest:
        raise FormatError(f"{path}: the boxes have changed since the run began; run the command again")
    return boxes


def read_given_boxes(path: str) -> GivenBoxes:
    """The boxes in a COCO ``.json``, a YOLO ``data.yaml``, or the XML files of Pascal VOC; also those of masks.

    Args:
        path: path or URI of a file, or of a folder of XML files.

    Raises:
        FormatError: it cannot be read, names no classes, or is of another format.
    """
    if info(locate(path)) is None:
        raise FormatError(f"{path}: no such file of boxes; give a COCO .json, a YOLO data.yaml or Pascal VOC XML")
    truth = read_ground_truth(path)
    if truth.semantic:
        raise FormatError(f"{path}: holds masks of whole classes, not boxes of objects")
    if not truth.class_names:
        raise FormatError(f"{path}: names no classes; boxes without a class cannot be labeled")
    findings = Findings()
    images = {image.name: _boxes_of(image, findings) for image in truth.images if image.width}
    left_out = [note for note in truth.notes if ": counted by the box" not in note]  # which is what is asked for here
    digest = _digest(truth.class_names, images)
    boxes = GivenBoxes(truth.class_names, images, (*left_out, *findings.lines()), digest)
    _last_read.clear()  # they may be large
    _last_read[path, digest] = boxes
    return boxes


def as_prompt(class_name: str) -> str:
    """A class name as a prompt, which may not contain what ends a phrase."""
    return " ".join(class_name.translate(str.maketrans(SEPARATORS, " " * len(SEPARATORS))).split())


def _boxes_of(image: GroundTruthImage, findings: Findings) -> ImageBoxes:
    boxes, class_ids = [], []
    for item in image.instances:
        x1, y1, x2, y2 = item.box
        if item.crowd:
            findings.add("box", "of a crowd: left out", image.name)
        else:  # the readers leave out boxes that lie outside of their image
            boxes.append((max(x1, 0.0), max(y1, 0.0), min(x2, image.width), min(y2, image.height)))
            class_ids.append(item.class_id)
    return ImageBoxes(
        image.width,
        image.height,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(class_ids, np.int64),
    )


def _digest(class_names: tuple[str, ...], images: Mapping[str, ImageBoxes]) -> str:
    digest = hashlib.blake2b(repr(class_names).encode(), digest_size=16)
    for name, image in sorted(images.items()):
        digest.update(repr((name, image.width, image.height)).encode())
        digest.update(image.boxes_xyxy.tobytes() + image.class_ids.tobytes())
    return digest.hexdigest()
