"""Polygons with fewer points, within a stated distance of the exact outline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from labeler.geometry.bridges import Points
from labeler.geometry.masks import Rle, mask_iou, mask_to_rle, rle_box_xyxy, rle_crop, window_to_rle
from labeler.geometry.polygons import (
    mask_to_polygons,
    mask_to_single_polygon,
    polygons_to_rle,
    single_polygon_to_mask,
)
from labeler.opencv import opencv


def simplified_polygons(rle: Rle, tolerance: float) -> list[list[int]]:
    """``mask_to_polygons`` with fewer points, see ``simplified``."""
    polygons = [np.array(polygon, dtype=np.int32).reshape(-1, 2) for polygon in mask_to_polygons(rle)]
    return [simplified(polygon, tolerance).ravel().tolist() for polygon in polygons]


def simplified_single_polygon(rle: Rle, tolerance: float) -> Points:
    """``mask_to_single_polygon`` with fewer points, see ``simplified``."""
    return simplified(mask_to_single_polygon(rle), tolerance)


def simplified(polygon: Points, tolerance: float) -> Points:
    """Leave out points of a closed polygon, such that the Hausdorff distance of both outlines is at most ``tolerance``.

    This is the algorithm of Douglas and Peucker, with distances to the segment and not to its line: a point of the
    outline is never further away from what replaces it. Points that are visited more than once stay, so that bridges to
    holes and parts (see ``labeler.geometry.bridges``) still run there and back along one line. A polygon that would
    have fewer than three points stays as it is.

    Args:
        polygon: int32 ``(n, 2)``, x, y.
        tolerance: in pixels, 0 or more; 0 changes nothing.

    Returns:
        int32 ``(m, 2)``: some of the points, in their order.
    """
    count = len(polygon)
    if tolerance <= 0 or count <= 3:
        return polygon
    fixed = _fixed_points(polygon)
    # The walk begins at a fixed point and ends there.
    walk = (fixed[0] + np.arange(count + 1)) % count
    closed = polygon[walk].astype(np.float64)
    kept = np.zeros(count + 1, dtype=np.bool_)
    kept[fixed - fixed[0]] = kept[count] = True
    _keep_more(closed, kept, tolerance)
    places = np.sort(walk[:-1][kept[:-1]])
    return polygon[places] if len(places) >= 3 else polygon


def _fixed_points(polygon: Points) -> npt.NDArray[np.int64]:
    """The indices of points that stay: those visited more than once, and at least two that are far apart."""
    places, where, visits = np.unique(polygon, axis=0, return_inverse=True, return_counts=True)
    fixed = np.flatnonzero(visits[where.ravel()] > 1)
    if len(places) < 2 or fixed.size >= 2:
        return fixed
    offsets = polygon.astype(np.int64) - polygon[0]
    return np.array([0, int((offsets**2).sum(axis=1).argmax())])


def _keep_more(points: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_], tolerance: float) -> None:
    """Mark in ``kept`` the points of an open line that it needs besides those marked, the ends among them.

    Each round looks at all segments between marked points at once, and marks the furthest point of each.
    """
    left = np.flatnonzero(~kept)
    while left.size:
        stops = np.flatnonzero(kept)
        segment = np.searchsorted(stops, left)
        distances = _distances(points[left], points[stops[segment - 1]], points[stops[segment]])
        first = np.flatnonzero(np.diff(segment, prepend=-1))
        counts = np.diff(first, append=left.size)
        furthest = np.repeat(np.maximum.reduceat(distances, first), counts)
        too_far = furthest > tolerance**2
        candidates = np.flatnonzero(too_far & (distances == furthest))
        _, once = np.unique(segment[candidates], return_index=True)
        chosen = candidates[once]
        kept[left[chosen]] = True
        too_far[chosen] = False
        left = left[too_far]


def _distances(
    points: npt.NDArray[np.float64], starts: npt.NDArray[np.float64], stops: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The squared distance of each point to its segment, float64 ``(n,)``."""
    along, offsets = stops - starts, points - starts
    length = np.einsum("ij,ij->i", along, along)
    share = np.divide(np.einsum("ij,ij->i", offsets, along), length, out=np.zeros(len(points)), where=length > 0)
    gaps = offsets - np.clip(share, 0, 1)[:, None] * along
    squares: npt.NDArray[np.float64] = np.einsum("ij,ij->i", gaps, gaps)
    return squares


def without_small_parts(rle: Rle, pixels: int) -> Rle:
    """The mask without its 8-connected parts of fewer than ``pixels`` pixels; the largest part always stays."""
    x1, y1, x2, y2 = map(int, rle_box_xyxy(rle))
    if pixels <= 1 or x1 == x2:
        return rle
    crop = np.ascontiguousarray(rle_crop(rle, x1, y1, x2, y2)).view(np.uint8)
    cv2 = opencv()
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    stays = areas >= pixels
    stays[areas.argmax()] = True
    if stays.all():
        return rle
    height, width = rle["size"]
    return window_to_rle(np.concatenate(([False], stays))[parts], x1, y1, width, height)


def polygons_iou(rle: Rle, polygons: Sequence[Sequence[float]]) -> float:
    """The IoU of a mask and of COCO polygons made from it, as ``pycocotools`` rasterises them; 0 without a polygon."""
    height, width = rle["size"]
    return float(mask_iou([rle], [polygons_to_rle(polygons, height, width)])[0, 0]) if polygons else 0.0


def single_polygon_iou(rle: Rle, polygon: Points) -> float:
    """The IoU of a mask and of a YOLO polygon made from it, as ``cv2.fillPoly`` rasterises it; 0 without a point."""
    height, width = rle["size"]
    if not len(polygon):
        return 0.0
    found = mask_to_rle(single_polygon_to_mask(polygon.astype(np.float64), height, width))
    return float(mask_iou([rle], [found])[0, 0])


def fewest_decimals(width: int, height: int, margin: float) -> int:
    """How many decimals a coordinate divided by the image's size needs to be off by less than ``margin`` pixels."""
    return max(1, math.floor(math.log10(max(width, height) / (2 * margin))) + 1)
