"""Ground truth, and how labels are paired with it: images by name, instances of one class by mask IoU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.masks import Rle, mask_containment, mask_iou

UNMATCHED, IGNORED = -1, -2


@dataclass(frozen=True, slots=True)
class GroundTruthInstance:
    """An object, or a crowd of objects, in an image.

    Attributes:
        class_id: index in ``GroundTruth.class_names``.
        rle: the mask, at image size.
        crowd: a region of many objects. Instances in it are neither right nor wrong.
        box_xyxy, area: box and area in pixels as stated in the file, which the COCO metrics use; None for those of the
            mask.
    """

    class_id: int
    rle: Rle
    crowd: bool = False
    box_xyxy: tuple[float, float, float, float] | None = None
    area: float | None = None


@dataclass(frozen=True, slots=True)
class GroundTruthImage:
    """All objects of one image.

    Attributes:
        name: the image's name in the ground truth, a POSIX path.
        width, height: pixels.
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
    """

    class_names: tuple[str, ...]
    images: tuple[GroundTruthImage, ...]
    frequencies: tuple[str, ...] = ()
    semantic: bool = False


def pair_images(image_ids: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """Pair images with names in another list, such as those of the ground truth.

    Equal names are paired first. Next are names of which one is the end of the other (``val/a.jpg`` and ``a.jpg``),
    unless several fit. Both steps are then repeated without suffixes, because mask files have other suffixes than
    images.

    Returns:
        image id -> name, for the images that have a partner.
    """
    left, right = dict.fromkeys(image_ids), dict.fromkeys(names)
    pairs: dict[str, str] = {}
    keys: tuple[Callable[[str], tuple[str, ...]], ...] = (
        lambda name: PurePosixPath(name).parts,
        lambda name: PurePosixPath(name).with_suffix("").parts,
    )
    for parts_of in keys:
        ends = Counter(end for name in right for end in _ends(parts_of(name)))
        by_end = {end: name for name in right for end in _ends(parts_of(name)) if ends[end] == 1}
        whole = {parts_of(name): name for name in right}
        claims: dict[str, list[str]] = {}
        for image_id in left:
            parts = parts_of(image_id)
            longer = (whole[end] for end in _ends(parts) if end in whole)
            if match := whole.get(parts) or by_end.get(parts) or next(longer, None):
                claims.setdefault(match, []).append(image_id)
        for name, claimants in claims.items():
            exact = [image_id for image_id in claimants if parts_of(image_id) == parts_of(name)]
            if len(chosen := exact or claimants) == 1:
                pairs[chosen[0]] = name
                del left[chosen[0]], right[name]
    return pairs


def _ends(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [parts[start:] for start in range(len(parts))]


def match_masks(predicted: Sequence[Rle], true: Sequence[GroundTruthInstance], iou: float = 0.5) -> NDArray[np.int64]:
    """Match predicted masks with true objects, all of one image and class.

    Matching is greedy, as in pycocotools (``COCOeval.evaluateImg``). Each mask in turn takes the object, among those
    not taken yet, with which it has the highest IoU, if that is ``iou`` or more. Masks that take none are ignored if at
    least the share ``iou`` of their area lies in a crowd.

    Args:
        predicted: masks, best score first.

    Returns:
        For each mask the index of its object in ``true``, ``UNMATCHED`` or ``IGNORED``; int64 ``(n,)``.
    """
    matches = np.full(len(predicted), UNMATCHED, dtype=np.int64)
    if not predicted or not true:
        return matches
    crowd = np.array([each.crowd for each in true])
    overlaps = mask_iou(predicted, [each.rle for each in true])
    overlaps[:, crowd] = 0
    in_crowd = mask_containment(predicted, [each.rle for each in true if each.crowd])
    for row, overlap in enumerate(overlaps):
        best = len(overlap) - 1 - int(overlap[::-1].argmax())  # the last one of equals
        if overlap[best] >= min(iou, 1 - 1e-10):
            matches[row] = best
            overlaps[:, best] = 0
        elif in_crowd.shape[1] and in_crowd[row].max() >= iou:
            matches[row] = IGNORED
    return matches
