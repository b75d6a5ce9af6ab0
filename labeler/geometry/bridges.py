"""Bridges: lines that join the contours of a mask into one polygon.

Readers fill polygons by the even-odd rule, so a line that runs there and back (a bridge) encloses nothing. A bridge
through the mask connects a hole with the outline around it, and changes no pixel. A bridge over the background connects
two parts of a mask. ``cv2.fillPoly`` paints it, so these bridges are made as short as possible, by a minimum spanning
tree.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from labeler.opencv import opencv

Points = npt.NDArray[np.int32]
# A bridge joins two points, each given as (index of the contour, index of the point in it).
Bridge = tuple[tuple[int, int], tuple[int, int]]


def corner_contours(crop: npt.NDArray[np.uint8]) -> list[Points]:
    """The contours of a mask, uint8 ``(H, W)``, through those border pixels where they turn; int32 ``(n, 2)``, x, y."""
    cv2 = opencv()
    contours, _ = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0] for contour in contours]


def contours_and_hole_bridges(crop: npt.NDArray[np.uint8]) -> tuple[list[Points], list[Bridge]]:
    """The contours of a mask, and bridges that connect each hole with the outline of its part.

    Args:
        crop: the mask, uint8 ``(H, W)``, 0 or 1, not empty.

    Returns:
        Contours through every border pixel, int32 ``(n, 2)`` each, x, y; and the bridges.
    """
    cv2 = opencv()
    raw_contours, hierarchy = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours = [contour[:, 0] for contour in raw_contours]
    holes = np.flatnonzero(hierarchy[0, :, 3] >= 0).tolist()
    if not holes:
        return contours, []
    points_at = _PointLookup(contours, crop.shape[1])
    connected = _DisjointSets(len(contours))
    bridges: list[Bridge] = []
    for hole in holes:
        # The bridge runs left from the hole's leftmost pixel, to a hole further left or to the outside of the part. All
        # bridges run left, so they form no cycle.
        index = int(np.argmin(contours[hole][:, 0]))
        x, y = contours[hole][index].tolist()
        background = np.flatnonzero(crop[y, :x] == 0)
        left = int(background[-1]) + 1 if background.size else 0
        bridges += [((hole, index), end) for end in points_at(left, y) if connected.join(hole, end[0])]
    return contours, bridges


def part_bridges(crop: npt.NDArray[np.uint8], contours: list[Points]) -> list[Bridge]:
    """The shortest bridges that connect all 8-connected parts of a mask.

    Each pixel belongs to the cell of the mask pixel nearest to it (a Voronoi diagram). Candidates are the bridges
    between mask pixels of two parts whose cells touch, and Kruskal's algorithm picks a minimum spanning tree of them.

    Args:
        crop, contours: see ``contours_and_hole_bridges``.
    """
    cv2 = opencv()
    count, part = cv2.connectedComponents(crop, connectivity=8)
    _, cell = cv2.distanceTransformWithLabels(1 - crop, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    pixel_of = np.zeros(cell.max() + 1, dtype=np.int64)
    inside = np.flatnonzero(crop)
    pixel_of[cell.ravel()[inside]] = inside
    nearest = pixel_of[cell]
    part = part.ravel().astype(np.int64)
    owner = part[nearest]
    sideways, down = owner[:, :-1] != owner[:, 1:], owner[:-1] != owner[1:]
    start = np.concatenate((nearest[:, :-1][sideways], nearest[:-1][down]))
    end = np.concatenate((nearest[:, 1:][sideways], nearest[1:][down]))
    width = crop.shape[1]
    squared = (start // width - end // width) ** 2 + (start % width - end % width) ** 2
    order = np.lexsort((end, start, squared))
    start, end = start[order], end[order]
    low, high = np.minimum(part[start], part[end]), np.maximum(part[start], part[end])
    _, shortest = np.unique(low * count + high, return_index=True)
    shortest.sort()

    points_at = _PointLookup(contours, width)
    connected = _DisjointSets(count)
    bridges: list[Bridge] = []
    for a, b in zip(start[shortest].tolist(), end[shortest].tolist(), strict=True):
        if connected.join(int(part[a]), int(part[b])):
            bridges.append((points_at(a % width, a // width)[0], points_at(b % width, b // width)[0]))
    return bridges


def splice(contours: list[Points], bridges: list[Bridge]) -> Iterator[Points]:
    """Join closed contours along bridges, which are walked there and back.

    Yields:
        One closed polygon per group of connected contours, int32 ``(n, 2)``, x, y.
    """
    if not bridges:
        yield from contours
        return
    points = np.concatenate(contours)
    ends = np.cumsum([len(contour) for contour in contours]).tolist()
    first = [0, *ends[:-1]]
    # The next point on the walk is the next one in `points`, except at the keys of `jump`.
    jump = {end - 1: start for start, end in zip(first, ends, strict=True)}
    copied: list[int] = []
    for (contour_a, index_a), (contour_b, index_b) in bridges:
        a, b = first[contour_a] + index_a, first[contour_b] + index_b
        a_copy, b_copy = len(points) + len(copied), len(points) + len(copied) + 1
        copied += [a, b]
        # The walk goes from a to the copy of b, around the contour of b to b itself, and back to the copy of a.
        jump[a_copy], jump[b_copy] = jump.get(a, a + 1), jump.get(b, b + 1)
        jump[a], jump[b] = b_copy, a_copy
    points = np.concatenate([points, points[copied]])
    stops = sorted(jump)
    seen: set[int] = set()
    for begin in first:
        if begin in seen:
            continue
        pieces, node = [], begin
        while node not in seen:
            seen.add(node)
            stop = stops[bisect_left(stops, node)]
            pieces.append(points[node : stop + 1])
            node = jump[stop]
        yield np.concatenate(pieces)


class _PointLookup:
    """Finds the contour points at a pixel, each as (index of the contour, index of the point in it)."""

    def __init__(self, contours: list[Points], width: int) -> None:
        points = np.concatenate(contours).astype(np.int64)
        lengths = [len(contour) for contour in contours]
        keys = points[:, 1] * width + points[:, 0]
        order = np.argsort(keys, kind="stable")
        self._width = width
        self._keys = keys[order]
        self._contour = np.repeat(np.arange(len(contours)), lengths)[order]
        self._point = np.concatenate([np.arange(length) for length in lengths])[order]

    def __call__(self, x: int, y: int) -> list[tuple[int, int]]:
        key = y * self._width + x
        equal = slice(*np.searchsorted(self._keys, [key, key + 1]).tolist())
        return list(zip(self._contour[equal].tolist(), self._point[equal].tolist(), strict=True))


class _DisjointSets:
    """Disjoint sets of the numbers 0 to n - 1 (union-find with path halving)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def join(self, a: int, b: int) -> bool:
        """Join the sets of ``a`` and ``b``. Returns False if they are in the same set already."""
        a, b = self._root(a), self._root(b)
        self._parent[a] = b
        return a != b

    def _root(self, item: int) -> int:
        parent = self._parent
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item
