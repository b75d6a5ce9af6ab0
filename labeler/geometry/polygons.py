"""Masks as polygons that rasterise back to them, and back.

Two readers, two outlines. COCO's reader (``pycocotools``) fills what lies inside the polygon, so COCO polygons run
along pixel edges, in whole corner coordinates. The readers of YOLO-seg (Ultralytics, supervision) use ``cv2.fillPoly``,
which also paints the outline, so YOLO polygons run through the pixels of the mask's own border, in pixel indices.
Both readers fill by the even-odd rule: a bridge that is walked there and back encloses nothing. A hole is cut open
by a bridge through the mask, which costs no pixel. Parts of a YOLO polygon, which must be one, are joined over the
background: ``fillPoly`` paints those bridges, so they are the shortest there are (a minimum spanning tree).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from labeler.geometry.masks import Rle, rle_box_xyxy, rle_crop
from labeler.opencv import opencv
from labeler.sizes import checked_size

Points = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
# Pixels along the polygons of one mask. pycocotools allocates a hundred bytes for each, and crashes if it gets none.
MAX_OUTLINE = 2**24


def mask_to_polygons(mask: Mask | Rle) -> list[list[int]]:
    """COCO polygons of a mask: one ``[x1, y1, x2, y2, ...]`` an 8-connected part, along pixel edges.

    ``pycocotools`` gives exactly the mask back, holes and single pixels too.

    Args:
        mask: bool (H, W), or RLE.

    Returns:
        No polygon for an empty mask.
    """
    crop, offset = _tight_crop(mask)
    contours, hole_bridges = _outlines(_doubled(crop))
    polygons = [_simplify((polygon + 1) // 2 + offset) for polygon in _splice(contours, hole_bridges)]
    return [polygon.ravel().tolist() for polygon in polygons]


def mask_to_outlines(mask: Mask | Rle) -> list[Points]:
    """The closed lines between mask and background, along pixel edges: one around each 8-connected part and each hole.

    Args:
        mask: bool (H, W), or RLE.

    Returns:
        int32 (n, 2) each: corners ``x, y``; filled by the even-odd rule they give the mask back.
    """
    crop, offset = _tight_crop(mask)
    if not crop.size:
        return []
    cv2 = opencv()
    found, _ = cv2.findContours(_doubled(crop), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [_simplify((contour[:, 0] + 1) // 2 + offset) for contour in found]


def _doubled(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Twice as large: there a pixel's border pixels 2x and 2x + 1 stand for its edges x and x + 1."""
    return (crop.astype(np.uint16) * 0x0101).view(np.uint8).repeat(2, axis=0)


def polygons_to_rle(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """The union of COCO polygons, as ``pycocotools`` rasterises them; the inverse of ``mask_to_polygons``.

    Raises:
        ValueError: there is no polygon, or one is no list of three or more x, y, or has points far outside the image;
            or size or outline are too large to be rasterised.
    """
    width, height = checked_size(width, height)
    checked = [_checked_polygon(polygon, width, height) for polygon in polygons]
    if not checked:
        raise ValueError("the segmentation is empty")
    if sum(_outline_length(polygon) for polygon in checked) > MAX_OUTLINE:
        raise ValueError(f"the outline of its polygons is longer than {MAX_OUTLINE} pixels")
    rle: Rle = coco_mask.merge(coco_mask.frPyObjects([polygon.tolist() for polygon in checked], height, width))
    return {"size": [height, width], "counts": rle["counts"]}


def _checked_polygon(polygon: Sequence[float], width: int, height: int) -> npt.NDArray[np.float64]:
    """float64 (2n,): x, y in turn."""
    try:
        values = np.array(polygon)
    except (TypeError, ValueError, OverflowError):  # lists of several lengths
        raise ValueError("a polygon is not a list of numbers") from None
    if values.dtype.kind not in "iuf":  # text, bools, None, integers of more than 64 bits
        raise ValueError("a polygon is not a list of numbers")
    values = values.astype(np.float64)
    if values.ndim != 1 or values.size < 6 or values.size % 2:
        raise ValueError("a polygon is not a list of three or more x, y")
    # Far outside or not finite, pycocotools would run out of memory or worse.
    if not (np.abs(values) <= 2 * max(width, height)).all():
        raise ValueError("a polygon has points far outside the image")
    return values


def _outline_length(polygon: npt.NDArray[np.float64]) -> float:
    """Pixels along the closed outline, by which the memory that ``pycocotools`` needs grows."""
    points = polygon.reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def mask_to_single_polygon(mask: Mask | Rle) -> Points:
    """One closed polygon for ``cv2.fillPoly``: holes cut open, parts joined by the shortest bridges.

    ``fillPoly`` gives a mask of one 8-connected part exactly back; every further part costs its bridge's pixels.

    Args:
        mask: bool (H, W), or RLE.

    Returns:
        int32 (n, 2): ``x, y`` pixel indices, n >= 3 (points repeat for one and two pixels); (0, 2) for an empty mask.
    """
    crop, offset = _tight_crop(mask)
    contours, bridges = _outlines(crop)
    if len(contours) - len(bridges) > 1:
        bridges += _part_bridges(crop, contours)
    polygon = next(_splice(contours, bridges), None)
    if polygon is None:
        return np.zeros((0, 2), dtype=np.int32)
    polygon = _simplify(polygon + offset)
    return np.pad(polygon, ((0, max(0, 3 - len(polygon))), (0, 0)), mode="edge")


def single_polygon_to_mask(polygon: npt.NDArray[np.float64], height: int, width: int) -> Mask:
    """Rasterise (n, 2) pixel coordinates as Ultralytics does: cut to whole numbers, ``cv2.fillPoly``."""
    mask = np.zeros((height, width), dtype=np.uint8)
    opencv().fillPoly(mask, [polygon.astype(np.int32)], color=1)
    return mask.view(np.bool_)


# A bridge joins two points, each given as (contour, position in it).
Bridge = tuple[tuple[int, int], tuple[int, int]]


def _tight_crop(mask: Mask | Rle) -> tuple[npt.NDArray[np.uint8], Points]:
    """The mask inside its tight box, uint8 and contiguous, and the box's corner."""
    if isinstance(mask, dict):
        x1, y1, x2, y2 = map(int, rle_box_xyxy(mask))
        crop = rle_crop(mask, x1, y1, x2, y2).view(np.uint8)
    else:
        x1, y1, width, height = opencv().boundingRect(np.ascontiguousarray(mask).view(np.uint8))
        crop = mask[y1 : y1 + height, x1 : x1 + width].view(np.uint8)
    return np.ascontiguousarray(crop), np.array([x1, y1], dtype=np.int32)


def _outlines(crop: npt.NDArray[np.uint8]) -> tuple[list[Points], list[Bridge]]:
    """Contours through every border pixel, and the bridges that tie each hole to its part's outline."""
    if not crop.size:
        return [], []
    cv2 = opencv()
    found, hierarchy = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    contours = [contour[:, 0] for contour in found]
    holes = np.flatnonzero(hierarchy[0, :, 3] >= 0).tolist()
    if not holes:
        return contours, []
    at = _Lookup(contours, crop.shape[1])
    joined = _Sets(len(contours))
    bridges: list[Bridge] = []
    for hole in holes:
        # Left of a hole's leftmost pixel the mask goes on up to a hole further left, or to the outside: no circles.
        position = int(np.argmin(contours[hole][:, 0]))
        x, y = contours[hole][position].tolist()
        background = np.flatnonzero(crop[y, :x] == 0)
        left = int(background[-1]) + 1 if background.size else 0
        bridges += [((hole, position), end) for end in at(left, y) if joined.join(hole, end[0])]
    return contours, bridges


def _part_bridges(crop: npt.NDArray[np.uint8], contours: list[Points]) -> list[Bridge]:
    """The shortest bridges that join all 8-connected parts.

    Parts whose Voronoi cells touch are candidates, at the border pixels whose cells touch; Kruskal's minimum
    spanning tree chooses.
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

    at = _Lookup(contours, width)
    joined = _Sets(count)
    bridges: list[Bridge] = []
    for a, b in zip(start[shortest].tolist(), end[shortest].tolist(), strict=True):
        if joined.join(int(part[a]), int(part[b])):
            bridges.append((at(a % width, a // width)[0], at(b % width, b // width)[0]))
    return bridges


def _splice(contours: list[Points], bridges: list[Bridge]) -> Iterator[Points]:
    """Join closed contours along bridges, each walked there and back; one polygon for every group left."""
    if not bridges:
        yield from contours
        return
    points = np.concatenate(contours)
    ends = np.cumsum([len(contour) for contour in contours]).tolist()
    first = [0, *ends[:-1]]
    # Where the walk does not go on to the next point.
    jump = {end - 1: start for start, end in zip(first, ends, strict=True)}
    again: list[int] = []
    for (contour_a, position_a), (contour_b, position_b) in bridges:
        a, b = first[contour_a] + position_a, first[contour_b] + position_b
        a_again, b_again = len(points) + len(again), len(points) + len(again) + 1
        again += [a, b]
        # a -> b again -> once round to b -> a again -> on from a
        jump[a_again], jump[b_again] = jump.get(a, a + 1), jump.get(b, b + 1)
        jump[a], jump[b] = b_again, a_again
    points = np.concatenate([points, points[again]])
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


def _simplify(polygon: Points) -> Points:
    """Drop points that repeat or lie on a straight line; turning points of bridges stay."""
    before_x, before_y = _steps(polygon)
    moves = (before_x != 0) | (before_y != 0)
    polygon = polygon[moves] if moves.any() else polygon[:1]
    before_x, before_y = _steps(polygon)
    after_x, after_y = np.roll(before_x, -1), np.roll(before_y, -1)
    turns = (before_x * after_y != before_y * after_x) | (before_x * after_x + before_y * after_y <= 0)
    corners: Points = polygon[turns]
    return corners


def _steps(polygon: Points) -> tuple[Points, Points]:
    """How far each point lies from the one before it, in x and in y."""
    x, y = np.ascontiguousarray(polygon.T)
    return x - np.concatenate((x[-1:], x[:-1])), y - np.concatenate((y[-1:], y[:-1]))


class _Lookup:
    """Which contours pass through a pixel, and where in them."""

    def __init__(self, contours: list[Points], width: int) -> None:
        points = np.concatenate(contours).astype(np.int64)
        lengths = [len(contour) for contour in contours]
        keys = points[:, 1] * width + points[:, 0]
        order = np.argsort(keys, kind="stable")
        self._width = width
        self._keys = keys[order]
        self._contour = np.repeat(np.arange(len(contours)), lengths)[order]
        self._position = np.concatenate([np.arange(length) for length in lengths])[order]

    def __call__(self, x: int, y: int) -> list[tuple[int, int]]:
        key = y * self._width + x
        found = slice(*np.searchsorted(self._keys, [key, key + 1]).tolist())
        return list(zip(self._contour[found].tolist(), self._position[found].tolist(), strict=True))


class _Sets:
    """Disjoint sets over 0..n-1 (union-find, path halving)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def join(self, a: int, b: int) -> bool:
        """Join the sets of ``a`` and ``b``; False if they are one already."""
        a, b = self._root(a), self._root(b)
        self._parent[a] = b
        return a != b

    def _root(self, item: int) -> int:
        parent = self._parent
        while parent[item] != item:
            parent[item] = item = parent[parent[item]]
        return item
