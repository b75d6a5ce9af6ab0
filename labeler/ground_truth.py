"""Ground truth, and how instances of one class and image are matched with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import box_iou
from labeler.geometry.masks import Rle, mask_containment, mask_iou, rle_box_xyxy

UNMATCHED, IGNORED = -1, -2


@dataclass(frozen=True, slots=True)
class GroundTruthInstance:
    """An object, or a crowd of objects, in an image.

    Attributes:
        class_id: index in ``GroundTruth.class_names``.
        rle: the mask, at image size; if only the box is known, that is the mask of the box.
        crowd: a region of many objects. Instances in it are neither right nor wrong.
        box_xyxy, area: box and area in pixels as stated in the file, which the COCO metrics use; None for those of the
            mask.
        box_only: the shape of the object is not known, only its box. It counts for measures of boxes, and is matched by
            box IoU; measures of masks leave it out.
    """

    class_id: int
    rle: Rle
    crowd: bool = False
    box_xyxy: tuple[float, float, float, float] | None = None
    area: float | None = None
    box_only: bool = False

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The stated box, or that of the mask; xyxy in pixels."""
        return self.box_xyxy or rle_box_xyxy(self.rle)


@dataclass(frozen=True, slots=True)
class GroundTruthImage:
    """All objects of one image.

    Attributes:
        name: the image's name in the ground truth, a POSIX path.
        width, height: pixels; 0 if the size is not known, and then there are no instances.
        absent: class ids that were looked for in the image and not found; None if these are all classes without an
            instance.
        not_exhaustive: class ids that may have more objects in the image than ``instances`` lists.
    """

    name: str
    width: int
    height: int
    instances: tuple[GroundTruthInstance, ...] = ()
    absent: frozenset[int] | None = None
    not_exhaustive: frozenset[int] = frozenset()

    def looked_for(self, class_id: int) -> bool:
        """Whether the image was searched for a class. If not, instances of the class are neither right nor wrong."""
        return (
            self.absent is None or class_id in self.absent or any(each.class_id == class_id for each in self.instances)
        )


@dataclass(frozen=True)
class GroundTruth:
    """An annotated dataset to measure labels against.

    Attributes:
        class_names: by class id.
        frequencies: ``r``, ``c`` or ``f`` (rare, common, frequent) for each class, as in LVIS; empty if not stated.
        semantic: objects of a class are not separated; all pixels of a class in an image are one instance.
        notes: what was not read as it stands in the files, or was left out; one line each.
    """

    class_names: tuple[str, ...]
    images: tuple[GroundTruthImage, ...]
    frequencies: tuple[str, ...] = ()
    semantic: bool = False
    notes: tuple[str, ...] = ()


def class_key(name: str) -> str:
    """What equal class names have in common: case, underscores and spaces do not matter."""
    return " ".join(name.replace("_", " ").casefold().split())


def unique_classes(names: Iterable[str]) -> tuple[tuple[str, ...], list[int]]:
    """The first of all equal class names (see ``class_key``), and the class id of each of ``names``."""
    first: dict[str, str] = {}
    class_ids: dict[str, int] = {}
    listed = list(names)
    for name in listed:
        first.setdefault(class_key(name), name)
        class_ids.setdefault(class_key(name), len(class_ids))
    return tuple(first.values()), [class_ids[class_key(name)] for name in listed]


def match_masks(predicted: Sequence[Rle], true: Sequence[GroundTruthInstance], iou: float = 0.5) -> NDArray[np.int64]:
    """Match predicted masks with true objects, all of one image and class.

    The IoU is that of masks; with an object of which only the box is known it is that of the boxes.

    Matching is greedy, as in pycocotools (``COCOeval.evaluateImg``). Each mask in turn takes the object, among those
    not taken yet, with which it has the highest IoU, if that is ``iou`` or more. Masks that take none are ignored if at
    least the share ``iou`` of their area lies in a crowd.

    Args:
        predicted: masks, best score first.

    Returns:
        For each mask the index of its object in ``true``, ``UNMATCHED`` or ``IGNORED``; int64 ``(n,)``.
    """
    if not predicted or not true:
        return np.full(len(predicted), UNMATCHED, dtype=np.int64)
    crowd = np.array([each.crowd for each in true])
    in_crowd = mask_containment(predicted, [each.rle for each in true if each.crowd])
    return match_overlaps(match_iou(predicted, true), in_crowd, crowd, iou)


def match_overlaps(
    ious: NDArray[np.float64], in_crowd: NDArray[np.float64], crowd: NDArray[np.bool_], iou: float
) -> NDArray[np.int64]:
    """``match_masks`` for known overlaps.

    Args:
        ious: float64 ``(n, m)``, what ``match_iou`` gives; those of crowds do not count.
        in_crowd: float64 ``(n, crowds)``, the share of each mask that lies in each crowd.
        crowd: bool ``(m,)``, which objects are crowds.
    """
    matches = np.full(len(ious), UNMATCHED, dtype=np.int64)
    if not crowd.size:
        return matches
    ious = np.where(crowd, 0.0, ious)
    least = min(iou, 1 - 1e-10)
    for row in (ious.max(axis=1) >= least).nonzero()[0].tolist():
        overlap = ious[row]
        best = len(overlap) - 1 - int(overlap[::-1].argmax())  # the last one of equals
        if overlap[best] >= least:
            matches[row] = best
            ious[:, best] = 0
    matches[(matches == UNMATCHED) & (in_crowd.max(axis=1, initial=0.0) >= iou)] = IGNORED
    return matches


def match_iou(predicted: Sequence[Rle], true: Sequence[GroundTruthInstance]) -> NDArray[np.float64]:
    """The IoU of masks, or of boxes where only the box of an object is known; float64 ``(n, m)`` in [0, 1]."""
    overlaps = mask_iou(predicted, [each.rle for each in true])
    if boxes := [column for column, each in enumerate(true) if each.box_only]:
        tight = np.array([rle_box_xyxy(rle) for rle in predicted], dtype=np.float32)
        overlaps[:, boxes] = box_iou(tight, np.array([true[column].box for column in boxes], dtype=np.float32))
    return overlaps
