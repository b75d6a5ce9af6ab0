"""Polygons with fewer points, within a stated distance of the exact outline, and without small parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import islice
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
    exact = [CocoOutline(mask_to_polygons(rle), rle) for rle in _parts(counts, height, width, rule)]
    points = [np.array(polygon, np.int32).reshape(-1, 2) for outline in exact for polygon in outline.polygons]
    fewer = (polygon.ravel().tolist() for polygon in simplified(points, rule.simplify))
    return [_drawn(outline, list(islice(fewer, len(outline.polygons)))) for outline in exact]


def _drawn(exact: CocoOutline, polygons: list[list[int]]) -> CocoOutline:
    """The outline of ``polygons``; ``exact`` if these are the same, or enclose no pixel."""
    if polygons == exact.polygons:
        return exact
    drawn = polygons_to_rle(polygons, *exact.drawn["size"])
    return CocoOutline(polygons, drawn) if rle_area(drawn) else exact


@lru_cache(maxsize=1)
def _yolo_polygons(counts: tuple[bytes, ...], height: int, width: int, rule: PolygonRule) -> list[Points]:
    return simplified(list(masks_to_single_polygons(_parts(counts, height, width, rule))), rule.simplify)


def _parts(counts: tuple[bytes, ...], height: int, width: int, rule: PolygonRule) -> list[Rle]:
    return [without_small_parts({"size": [height, width], "counts": each}, rule.min_part) for each in counts]


def yolo_drawn(rle: Rle, rule: PolygonRule) -> Rle:
    """A mask as Ultralytics reads it from a label file."""
    height, width = rle["size"]
    (polygon,) = yolo_polygons([rle], rule)
    return mask_to_rle(single_polygon_to_mask(polygon.astype(np.float64), height, width))


def simplified(polygons: Sequence[Points], tolerance: float) -> list[Points]:
    """Leave out points of closed polygons, such that no outline is further than ``tolerance`` from the one before.

    The distance is that of Hausdorff. This is the algorithm of Douglas and Peucker, with distances to the segment and
    not to its line: a point of the outline is never further away from what replaces it. Points that are visited more
    than once stay, so that bridges to holes and parts (see ``labeler.geometry.bridges``) still run there and back along
    one line. A polygon that would have fewer than three points stays as it is.

    Args:
        polygons: int32 ``(n, 2)`` each, x, y. Many together take much less time than one by one.
        tolerance: in pixels, 0 or more; 0 changes nothing.

    Returns:
        int32 ``(m, 2)`` each: some of the points, in their order.
    """
    if tolerance <= 0 or not polygons:
        return list(polygons)
    walks = [_walk(polygon) for polygon in polygons]
    points = np.concatenate([polygon[order] for polygon, (order, _) in zip(polygons, walks, strict=True)])
    kept = np.concatenate([fixed for _, fixed in walks])
    _keep_more(points.astype(np.float64), kept, tolerance)
    fewer = []
    stays = np.split(kept, np.cumsum([len(order) for order, _ in walks])[:-1])
    for polygon, (order, _), stay in zip(polygons, walks, stays, strict=True):
        places = np.sort(order[:-1][stay[:-1]])
        fewer.append(polygon[places] if len(places) >= 3 else polygon)
    return fewer


def _walk(polygon: Points) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The indices of the points along the closed line, from a point that stays and back to it; and which ones stay."""
    count = len(polygon)
    fixed = _fixed_points(polygon) if count > 3 else np.arange(count)
    start = int(fixed[0]) if count else 0
    order = (start + np.arange(count + 1)) % count if count else np.zeros(0, dtype=np.int64)
    stays = np.zeros(len(order), dtype=np.bool_)
    stays[fixed - start] = True
    stays[-1:] = True
    return order, stays


def _fixed_points(polygon: Points) -> npt.NDArray[np.int64]:
    """The indices of points that stay: those visited more than once, and at least two that are far apart."""
    keys = (polygon[:, 1].astype(np.int64) << 32) + polygon[:, 0]
    places, where, visits = np.unique(keys, return_inverse=True, return_counts=True)
    fixed = np.flatnonzero(visits[where] > 1)
    if len(places) < 2 or fixed.size >= 2:
        return fixed
    offsets = polygon.astype(np.int64) - polygon[0]
    return np.array([0, int((offsets**2).sum(axis=1).argmax())])


def _keep_more(points: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_], tolerance: float) -> None:
    """Mark in ``kept`` the points of open lines, one behind the other, that these need besides those marked.

    The ends of the lines are marked. Each round looks at all segments between marked points at once, and marks the
    furthest point of each.
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
        chosen = candidates[np.flatnonzero(np.diff(segment[candidates], prepend=-1))]  # the first of each segment
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
