"""Writes semantic masks, a class per pixel, as Ultralytics (``masks_dir``) and torchvision's models expect them.

The mask of ``images/train/a.jpg`` is ``masks/train/a.png``. Value 0 is the background, which is a class of its own
here, and the value of a class is its id + 1. No pixel has the value 255, which readers ignore.
``labeler.formats.mask_images`` reads the masks with ``masks/labelmap.txt``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labeler.errors import UsageError
from labeler.formats.index_masks import grey_png, painted, visible
from labeler.formats.mask_classes import BACKGROUND, check_count, label_map
from labeler.formats.yolo import SAME_NAMES, data_yaml
from labeler.records import ImageRecord

MASKS = "masks"  # the folder beside "images"


def semantic_png(record: ImageRecord, class_count: int) -> bytes:
    """The mask of an image as PNG; where instances overlap, the one with the best score is visible.

    Raises:
        UsageError: there are more classes than a mask can tell apart, or a class id is not below ``class_count``.
    """
    check_classes(record, class_count)
    return grey_png(painted(visible(record), [instance.class_id + 1 for instance in record.instances]))


def check_classes(record: ImageRecord, class_count: int) -> None:
    """Raises UsageError if masks cannot tell the classes apart, or an instance has none of them."""
    check_count(class_count)
    for instance in record.instances:
        if not 0 <= instance.class_id < class_count:
            raise UsageError(f"{record.image_id}: class id {instance.class_id}, but there are {class_count} classes")


def semantic_yaml(class_names: Sequence[str], folders: Mapping[str, str] = SAME_NAMES) -> str:
    """Ultralytics' ``data.yaml`` for training with ``task=semantic``; see ``labeler.formats.yolo.data_yaml``."""
    return data_yaml([BACKGROUND, *class_names], folders) + f"masks_dir: {MASKS}\n"


def semantic_label_map(class_names: Sequence[str]) -> str:
    """The content of ``masks/labelmap.txt``, with the grey of each class; see ``label_map``."""
    return label_map(class_names, [(value, value, value) for value in range(len(class_names) + 1)])
