"""Conversion between instances and supervision's ``Detections``, and the dataset layout of autodistill::

OUT/data.yaml
OUT/{train,valid}/images/…
OUT/{train,valid}/labels/…
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from labeler.files.images import file_digest
from labeler.formats.splits import in_validation
from labeler.formats.yolo import label_path, write_yolo_labels
from labeler.geometry.masks import Rle, mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.opencv import opencv
from labeler.records import ImageRecord, Instance

try:
    import supervision as sv
    from supervision.detection.compact_mask import CompactMask
except ImportError:
    opencv()  # supervision imports OpenCV; if that is the cause, this says so in one line
    raise

SPLITS = ("train", "valid")
VALID_SHARE = 0.2


def to_detections(instances: Sequence[Instance], size: tuple[int, int], class_names: Sequence[str]) -> sv.Detections:
    """The instances of one image as ``Detections`` with compact masks.

    Args:
        size: (height, width) of the image.
        class_names: by class id.

    Returns:
        All fields are set, even without instances. ``data`` contains ``class_name``, ``mask_score``, ``stability`` and
        ``joint_score``.
    """

    def column(name: str) -> npt.NDArray[np.float32]:
        return np.array([getattr(instance, name) for instance in instances], dtype=np.float32)

    class_ids = [instance.class_id for instance in instances]
    return sv.Detections(
        xyxy=column("box_xyxy").reshape(-1, 4),
        mask=_to_compact([instance.rle for instance in instances], size),
        confidence=column("score"),
        class_id=np.array(class_ids, dtype=np.int64),
        data={
            "class_name": np.array([class_names[class_id] for class_id in class_ids], dtype=str),
            **{name: column(name) for name in ("mask_score", "stability", "joint_score")},
        },
    )


def to_instances(detections: sv.Detections) -> tuple[Instance, ...]:
    """The inverse of ``to_detections``, without the prompts. Only one dense mask exists at a time."""
    fields: Any = (detections.xyxy, detections.class_id, detections.confidence, detections.mask)
    scores: Any = (detections.data["mask_score"], detections.data["stability"])
    instances = []
    for box, class_id, score, mask, mask_score, stability in zip(*fields, *scores, strict=True):
        rle = mask_to_rle(mask)
        instances.append(
            Instance(
                class_id=int(class_id),
                prompt="",
                box_xyxy=tuple(box.tolist()),
                score=float(score),
                mask_score=float(mask_score),
                stability=float(stability),
                area=rle_area(rle),
                rle=rle,
            )
        )
    return tuple(instances)


def _to_compact(rles: Sequence[Rle], size: tuple[int, int]) -> CompactMask:
    """Convert one mask at a time, which is five times as fast as ``from_coco_rle`` and has no size limit."""
    masks = [CompactMask.from_dense(np.zeros((0, *size), dtype=bool), np.zeros((0, 4)), size)]
    for rle in rles:
        box = np.array([rle_box_xyxy(rle)]) - (0, 0, 1, 1)  # in supervision, x2 and y2 are the last column and row
        masks.append(CompactMask.from_dense(rle_to_mask(rle)[None], box, size))
    return CompactMask.merge(masks)


def write_image(output: Path, source: Path, detections: sv.Detections) -> Path:
    """Copy an image and write its YOLO labels; returns the path of the label file.

    An image that ``output`` has under this name stays in its split. Else a hash of the content decides, as it does by
    default in a labeled folder, so that copies of one image are in one split.
    """
    image = _place(output, source)
    image.parent.mkdir(parents=True, exist_ok=True)
    if not (image.exists() and image.samefile(source)):
        image.unlink(missing_ok=True)  # copying onto a link would overwrite its target
        shutil.copyfile(source, image)
    mask: Any = detections.mask
    _, height, width = mask.shape
    write_yolo_labels(
        label_path(image), ImageRecord(source.name, width, height, "", instances=to_instances(detections))
    )
    return label_path(image)


def _place(output: Path, source: Path) -> Path:
    places = [output / split / "images" / source.name for split in SPLITS]
    if known := [place for place in places if os.path.lexists(place)]:
        return known[0]
    return places[in_validation(file_digest(source), VALID_SHARE, seed=0)]


def write_data_yaml(output: Path, class_names: Sequence[str]) -> None:
    """Write ``data.yaml`` as autodistill does, with absolute paths, ``nc``, and ``names`` as a list.

    Ultralytics refuses an empty split, so an empty split uses the images of the other one.
    """
    for split in SPLITS:
        for folder in ("images", "labels"):
            (output / split / folder).mkdir(parents=True, exist_ok=True)
    images = {split: Path(os.path.abspath(output), split, "images") for split in SPLITS}
    filled = [folder for folder in images.values() if any(folder.iterdir())]
    train, valid = (str(folder if folder in filled else filled[0]) for folder in images.values())
    content = {"train": train, "val": valid, "nc": len(class_names), "names": list(class_names)}
    (output / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="ascii", newline="\n")
