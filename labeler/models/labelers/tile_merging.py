"""One set of instances from those of overlapping tiles: a cut object becomes one, neighbours stay apart.

Two views of one object agree where both see it. That is the only test here: nothing is joined because it touches, is
near, or lies inside. ``sahi`` and supervision compare whole masks instead, by intersection over the smaller area. Then
a mask over a group swallows its members, and two halves that share little are not joined.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.boxes import shared_areas
from labeler.geometry.masks import (
    Rle,
    mask_areas,
    mask_boxes,
    mask_iou,
    mask_union,
    rle_area,
    rle_box_xyxy,
    rle_crop,
)
from labeler.geometry.tiles import Box, shared_box
from labeler.groups import find_groups
from labeler.records import Instance

SAME_IOU = 0.5  # of masks, in what both tiles see
GROUP_COVERAGE = 0.8  # of a group's mask by its members, as the gate has it by default
EDGE_SHARE, LEAST_EDGE = 0.01, 2  # of a tile's side, and pixels: a mask that ends so near to its border may be cut


@dataclass(frozen=True, eq=False)
class Part:
    """What one tile shows of an object.

    Attributes:
        instance: in the coordinates of the image.
        tile: where the tile is in the image.
        is_cut: the object may go on outside the tile.
    """

    instance: Instance
    tile: Box
    is_cut: bool

    @classmethod
    def of(cls, instance: Instance, tile: Box, width: int, height: int) -> Part:
        """The part that ``tile`` shows, in an image of that size; ``instance`` is in the image's coordinates."""
        margin = max(LEAST_EDGE, EDGE_SHARE * max(tile[2] - tile[0], tile[3] - tile[1]))
        x1, y1, x2, y2 = rle_box_xyxy(instance.rle)
        is_cut = (
            (tile[0] > 0 and x1 < tile[0] + margin)
            or (tile[1] > 0 and y1 < tile[1] + margin)
            or (tile[2] < width and x2 > tile[2] - margin)
            or (tile[3] < height and y2 > tile[3] - margin)
        )
        return cls(instance, tile, is_cut)


def merge_parts(parts: Sequence[Part]) -> list[Instance]:
    """The objects that ``parts`` show, best detector score first.

    Class by class: (1) Of whole objects that several tiles show, the one with the best joint score stays. A mask over a
    group (see ``labeler.groups``) stays too, for the gate to judge, and takes nothing away here or in (2). (2) A cut
    part goes where a whole object of its class looks the same in the part's tile. (3) Cut parts of different tiles that
    look the same in what both tiles see, or along the border of tiles that do not overlap, become one: at most one part
    from each tile, those that agree best first. (4) A part that looks like a joined object in its tile goes, as in (2).
    What is left stays as it is. "The same" is a mask IoU of ``SAME_IOU``.

    A joined object has the mask of all its parts, the score and prompt of the part with the best score, and the mean of
    the parts' mask scores and stabilities, weighted by area; its box reaches around their boxes.
    """
    by_class: dict[int, list[Part]] = defaultdict(list)
    for part in parts:
        if part.instance.area:
            by_class[part.instance.class_id].append(part)
    merged = [each for class_id in sorted(by_class) for each in _merge_class(by_class[class_id])]
    return sorted(merged, key=lambda instance: -instance.score)


def _merge_class(parts: Sequence[Part]) -> Iterator[Instance]:
    ranked = sorted(parts, key=lambda part: -part.instance.joint_score)
    groups, whole = _divided([part for part in ranked if not part.is_cut])
    whole = _without_repeats(whole)
    yield from (part.instance for part in groups + whole)
    cut = _not_shown_by([part.instance for part in whole], [part for part in ranked if part.is_cut])
    objects = _joined(cut)
    joined = [_union([part.instance for part in each]) for each in objects if len(each) > 1]
    yield from joined
    single = [part for each in objects if len(each) == 1 for part in each]
    yield from (part.instance for part in _not_shown_by(joined, single))


def _divided(whole: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Masks over several of the others, and the others."""
    rles, scores = [part.instance.rle for part in whole], [part.instance.joint_score for part in whole]
    areas, shared = mask_areas(rles), shared_areas(mask_boxes(rles))
    groups = set(find_groups(rles, areas, shared, scores, [True] * len(whole), range(len(whole)), GROUP_COVERAGE))
    divided: tuple[list[Part], list[Part]] = ([], [])
    for index, part in enumerate(whole):
        divided[index not in groups].append(part)
    return divided


def _without_repeats(ranked: Sequence[Part]) -> list[Part]:
    """Those that no better one of another tile shows too. What one tile tells apart stays apart."""
    boxes, kept = _boxes([part.instance for part in ranked]), list[int]()
    for index, part in enumerate(ranked):
        rivals = [other for other in kept if ranked[other].tile != part.tile]
        near = [other for other in rivals if _may_overlap(boxes[index], boxes[other])]
        others = [ranked[other].instance.rle for other in near]
        if not near or mask_iou([part.instance.rle], others).max() < SAME_IOU:
            kept.append(index)
    return [ranked[index] for index in kept]


def _not_shown_by(objects: Sequence[Instance], parts: Sequence[Part]) -> list[Part]:
    """The parts that look like none of ``objects`` in their tile."""
    boxes, kept = _boxes(objects), list[Part]()
    for part in parts:
        box = np.array(rle_box_xyxy(part.instance.rle))
        near = (np.minimum(boxes[:, 2:], box[2:]) > np.maximum(boxes[:, :2], box[:2])).all(axis=1)
        rles = [objects[index].rle for index in np.flatnonzero(near).tolist()]
        if not any(_iou_within(part.instance.rle, rle, part.tile) >= SAME_IOU for rle in rles):
            kept.append(part)
    return kept


def _joined(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts, grouped by the object that they show."""
    links = sorted(_links(parts), key=lambda link: (-link[0], link[1], link[2]))
    group = list(range(len(parts)))
    tiles = [{part.tile} for part in parts]
    for _, one, other in links:
        first, second = group[one], group[other]
        if first != second and tiles[first].isdisjoint(tiles[second]):
            tiles[first] |= tiles[second]
            group = [first if each == second else each for each in group]
    members: dict[int, list[Part]] = defaultdict(list)
    for each, part in zip(group, parts, strict=True):
        members[each].append(part)
    return list(members.values())


def _links(parts: Sequence[Part]) -> Iterator[tuple[float, int, int]]:
    """(agreement, index, index) of the parts that look the same in what both of their tiles see."""
    boxes = _boxes([part.instance for part in parts])
    for one, first in enumerate(parts):
        touching = (np.minimum(boxes[:one, 2:], boxes[one, 2:]) >= np.maximum(boxes[:one, :2], boxes[one, :2])).all(1)
        for other in np.flatnonzero(touching).tolist():
            second = parts[other]
            if first.tile == second.tile:
                continue
            if zone := shared_box(first.tile, second.tile):
                agreement = _iou_within(first.instance.rle, second.instance.rle, zone)
            else:
                agreement = _border_iou(first, second)
            if agreement >= SAME_IOU:
                yield agreement, other, one


def _iou_within(one: Rle, other: Rle, zone: Box) -> float:
    first, second = rle_crop(one, *zone), rle_crop(other, *zone)
    return _iou(first, second)


def _border_iou(one: Part, other: Part) -> float:
    """How well the ends of two parts fit, along the border that their tiles share without overlap."""
    for first, second in ((one, other), (other, one)):
        a, b = first.tile, second.tile
        if a[2] == b[0] and max(a[1], b[1]) < min(a[3], b[3]):
            ends = [rle_crop(part.instance.rle, x, max(a[1], b[1]), x + 1, min(a[3], b[3]))
                    for part, x in ((first, a[2] - 1), (second, b[0]))]  # fmt: skip
            return _iou(*ends)
        if a[3] == b[1] and max(a[0], b[0]) < min(a[2], b[2]):
            ends = [rle_crop(part.instance.rle, max(a[0], b[0]), y, min(a[2], b[2]), y + 1)
                    for part, y in ((first, a[3] - 1), (second, b[1]))]  # fmt: skip
            return _iou(*ends)
    return 0.0


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def _union(parts: Sequence[Instance]) -> Instance:
    best = max(parts, key=lambda part: part.score)
    boxes = np.array([part.box_xyxy for part in parts], dtype=np.float64)
    x1, y1 = boxes[:, :2].min(axis=0).tolist()
    x2, y2 = boxes[:, 2:].max(axis=0).tolist()
    areas = [part.area for part in parts]
    rle = mask_union([part.rle for part in parts])
    return replace(
        best,
        box_xyxy=(x1, y1, x2, y2),
        mask_score=float(np.average([part.mask_score for part in parts], weights=areas)),
        stability=float(np.average([part.stability for part in parts], weights=areas)),
        area=rle_area(rle),
        rle=rle,
    )


def _boxes(instances: Sequence[Instance]) -> NDArray[np.float64]:
    """The tight boxes of masks, xyxy, float64 ``(n, 4)``."""
    return np.array([rle_box_xyxy(each.rle) for each in instances], dtype=np.float64).reshape(-1, 4)


def _may_overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether masks with these tight boxes may reach ``SAME_IOU``: they share no more than their boxes do."""
    shared = (np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(min=0).prod()
    return bool(shared > 0)
