"""Polygons with fewer points, within a stated distance of the exact outline, and without small parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labeler.geometry.bridges import Points
from labeler.geometry.masks import Rle, mask_to_rle, rle_area, rle_box_xyxy, rle_crop, window_to_rle
from labeler.geometry.polygon_rule import PolygonRule
from labeler.geometry.polygons import (
    mask_to_polygons,
    masks_to_single_polygons,
    polygons_to_rle,
    single_polygon_to_mask,
)
from labeler.opencv import opencv


class CocoOutline(NamedTuple):
    """The COCO polygons of a mask, and the mask that ``pycocotools`` rasterises them to."""

    polygons: list[list[int]]
    drawn: Rle


def coco_outlines(rles: Sequence[Rle], rule: PolygonRule) -> Iterable[CocoOutline]:
    """The COCO outline of each mask of an image. It is exact where a simplified one would enclose no pixel."""
    if rule.is_exact or not rles:
        return (CocoOutline(mask_to_polygons(rle), rle) for rle in rles)
    return _coco_outlines(tuple(rle["counts"] for rle in rles), *rles[0]["size"], rule)


def yolo_polygons(rles: Sequence[Rle], rule: PolygonRule) -> Iterable[Points]:
    """The YOLO polygon of each mask of an image."""
    if rule.is_exact or not rles:
        return masks_to_single_polygons(rles)
    return _yolo_polygons(tuple(rle["counts"] for rle in rles), *rles[0]["size"], rule)


# Those of the last image are remembered: they are needed for its files and for the figures about them.
@lru_cache(maxsize=1)
def _coco_outlines(counts: tuple[bytes, ...], height: int, width: int, rule: PolygonRule) -> list[CocoOutline]:
    return [_coco_outline(rle, rule) for rle in _parts(counts, height, width, rule)]


def _coco_outline(rle: Rle, rule: PolygonRule) -> CocoOutline:
    exact = CocoOutline(mask_to_polygons(rle), rle)
    if rule.simplify <= 0 or not exact.polygons:
        return exact
    points = (np.array(polygon, dtype=np.int32).reshape(-1, 2) for polygon in exact.polygons)
    polygons = [simplified(each, rule.simplify).ravel().tolist() for each in points]
    drawn = polygons_to_rle(polygons, *rle["size"])
    return CocoOutline(polygons, drawn) if rle_area(drawn) else exact


@lru_cache(maxsize=1)
def _yolo_polygons(counts: tuple[bytes, ...], height: int, width: int, rule: PolygonRule) -> list[Points]:
    polygons = masks_to_single_polygons(_parts(counts, height, width, rule))
    return [simplified(polygon, rule.simplify) for polygon in polygons]


def _parts(counts: tuple[bytes, ...], height: int, width: int, rule: PolygonRule) -> list[Rle]:
    return [without_small_parts({"size": [height, width], "counts": each}, rule.min_part) for each in counts]


def yolo_drawn(rle: Rle, rule: PolygonRule) -> Rle:
    """A mask as Ultralytics reads it from a label file."""
    height, width = rle["size"]
    (polygon,) = yolo_polygons([rle], rule)
    return mask_to_rle(single_polygon_to_mask(polygon.astype(np.float64), height, width))


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


def single_polygon_iou(rle: Rle, polygon: Points) -> float:
    """The IoU of a mask and of a YOLO polygon made from it, as ``cv2.fillPoly`` rasterises it; 0 without a point."""
    if not len(polygon):
        return 0.0
    x1, y1, x2, y2 = map(int, rle_box_xyxy(rle))  # the polygon does not leave the box
    exact = rle_crop(rle, x1, y1, x2, y2)
    drawn = single_polygon_to_mask(polygon.astype(np.float64) - (x1, y1), y2 - y1, x2 - x1)
    return float(np.count_nonzero(exact & drawn) / np.count_nonzero(exact | drawn))
