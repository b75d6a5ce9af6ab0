"""The formats that have files for each image: which files, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from labeler.formats import hugging_face, roboflow
from labeler.formats.semantic import MASKS, semantic_png
from labeler.formats.voc import voc_masks
from labeler.formats.yolo import yolo_labels
from labeler.formats.yolo_boxes import yolo_boxes
from labeler.geometry.polygon_rule import PolygonRule
from labeler.records import ImageRecord
from workflows.dataset.images import label_name


class ImageFormat(NamedTuple):
    """A format whose files for an image depend on its record alone.

    Attributes:
        names: of the files, from the split and the image's file name.
        contents: of the files, from the record with the instances of the dataset, the class names, and how polygons are
            made.
    """

    names: Callable[[str, str], list[str]]
    contents: Callable[[ImageRecord, Sequence[str], PolygonRule], list[bytes]]


def _voc_contents(record: ImageRecord, class_names: Sequence[str], _: PolygonRule) -> list[bytes]:
    masks = voc_masks(record, len(class_names))
    return [masks.classes, masks.objects]


IMAGE_FORMATS = {
    "yolo": ImageFormat(
        lambda split, name: [label_name(split, name)],
        lambda record, _, rule: [yolo_labels(record, rule).encode("ascii")],
    ),
    "yolo-detect": ImageFormat(
        lambda split, name: [label_name(split, name)],
        lambda record, *_: [yolo_boxes(record).encode("ascii")],
    ),
    "semantic": ImageFormat(
        lambda split, name: [f"{MASKS}/{split}/{_with_suffix(name, '.png')}"],
        lambda record, class_names, _: [semantic_png(record, len(class_names))],
    ),
    "voc": ImageFormat(
        lambda _, name: [f"voc/Segmentation{kind}/{_with_suffix(name, '.png')}" for kind in ("Class", "Object")],
        _voc_contents,
    ),
}
"""The XML of Pascal VOC is not among them, because it names the image file: see ``xml_name``."""

# Where formats that have the images beside their annotations put them.
_IMAGE_COPIES: dict[str, Callable[[str, str], str]] = {
    "roboflow": lambda split, name: f"roboflow/{roboflow.FOLDERS[split]}/{name}",
    "voc": lambda _, name: f"voc/JPEGImages/{voc_image_name(name)}",
    "hf": lambda split, name: f"hf/{hugging_face.FOLDERS[split]}/{name}",
}


def file_names_of(formats: Iterable[str], split: str, file_name: str) -> list[str]:
    """The names of an image's files, in the order of ``contents_of``."""
    return [name for each in formats if each in IMAGE_FORMATS for name in IMAGE_FORMATS[each].names(split, file_name)]


def contents_of(
    formats: Iterable[str], record: ImageRecord, class_names: Sequence[str], rule: PolygonRule
) -> list[bytes]:
    """The contents of an image's files; ``rule`` is that of polygons.

    Raises:
        UsageError: a format cannot express the classes.
    """
    files = (IMAGE_FORMATS[each].contents(record, class_names, rule) for each in formats if each in IMAGE_FORMATS)
    return [content for contents in files for content in contents]


def image_copies(formats: Iterable[str], split: str, file_name: str) -> list[str]:
    """The names of the image file besides that below ``images``."""
    return [_IMAGE_COPIES[each](split, file_name) for each in formats if each in _IMAGE_COPIES]


def voc_image_name(file_name: str) -> str:
    """The name of an image in Pascal VOC, which is ``.jpg`` whatever the file holds: readers append that suffix."""
    return _with_suffix(file_name, ".jpg")


def xml_name(file_name: str) -> str:
    return f"voc/Annotations/{_with_suffix(file_name, '.xml')}"


def _with_suffix(file_name: str, suffix: str) -> str:
    return str(PurePosixPath(file_name).with_suffix(suffix))
