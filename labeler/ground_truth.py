"""What is in the images in truth, and how it is paired with what was labeled.

Images are paired by name, objects within an image and class by mask IoU as pycocotools does it.
"""

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
    """One object.

    Attributes:
        class_id: position in the truth's class list.
        crowd: a region of many; what lies in it is neither a hit nor an error.
        box_xyxy, area: as the truth states them, which the COCO protocol goes by; None for those of the mask.
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
        name: a POSIX path, as the truth names it.
        absent: class ids that were looked for and are not there; None if that holds for all that have no instance.
        not_exhaustive: class ids of which more may be there than the instances.
    """

    name: str
    width: int
    height: int
    instances: tuple[GroundTruthInstance, ...] = ()
    absent: frozenset[int] | None = None
    not_exhaustive: frozenset[int] = frozenset()

    def looked_for(self, class_id: int) -> bool:
        """Whether it is known if the class is there; what is found of others is neither right nor wrong."""
        return (
            self.absent is None or class_id in self.absent or any(each.class_id == class_id for each in self.instances)
        )


@dataclass(frozen=True)
class GroundTruth:
    """A labeled set to measure against.

    Attributes:
        frequencies: ``r``, ``c`` or ``f`` of each class (rare, common, frequent), where the truth says so as LVIS does.
        semantic: pixels have classes but objects are not told apart; an image's pixels of a class are one instance.
    """

    class_names: tuple[str, ...]
    images: tuple[GroundTruthImage, ...]
    frequencies: tuple[str, ...] = ()
    semantic: bool = False


def pair_images(image_ids: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """The name in the truth of each image that has one.

    Two names mean one image if they are equal; else if one is the end of the other (``val/a.jpg``, ``a.jpg``), and
    nothing else there fits; else likewise without suffixes, since masks and labels have others than their images.
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
            if found := whole.get(parts) or by_end.get(parts) or next(longer, None):
                claims.setdefault(found, []).append(image_id)
        for name, claimants in claims.items():
            exact = [image_id for image_id in claimants if parts_of(image_id) == parts_of(name)]
            if len(chosen := exact or claimants) == 1:
                pairs[chosen[0]] = name
                del left[chosen[0]], right[name]
    return pairs


def _ends(parts: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [parts[start:] for start in range(len(parts))]


def match_masks(found: Sequence[Rle], true: Sequence[GroundTruthInstance], iou: float = 0.5) -> NDArray[np.int64]:
    """The object of ``true`` that each mask of ``found`` meets; all of one image and class.

    Greedy as in pycocotools: ``found`` comes best first, and each takes the free object that it overlaps most, if that
    is ``iou`` or more. What takes none but lies in a crowd by that share is ignored.

    Returns:
        int64 ``(n,)``: positions in ``true``, ``UNMATCHED`` or ``IGNORED``.
    """
    matches = np.full(len(found), UNMATCHED, dtype=np.int64)
    if not found or not true:
        return matches
    crowd = np.array([each.crowd for each in true])
    overlaps = mask_iou(found, [each.rle for each in true])
    overlaps[:, crowd] = 0
    in_crowd = mask_containment(found, [each.rle for each in true if each.crowd])
    for row, overlap in enumerate(overlaps):
        best = len(overlap) - 1 - int(overlap[::-1].argmax())  # of equals the last
        if overlap[best] >= min(iou, 1 - 1e-10):
            matches[row] = best
            overlaps[:, best] = 0
        elif in_crowd.shape[1] and in_crowd[row].max() >= iou:
            matches[row] = IGNORED
    return matches
