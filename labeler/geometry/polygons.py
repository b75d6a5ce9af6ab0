"""Masks to polygons that readers rasterise to the same mask, and polygons to masks.

COCO and YOLO need different outlines. The reader of COCO (``pycocotools``) fills the inside of a polygon, so COCO
polygons run along pixel edges, in corner coordinates. The readers of YOLO-seg (Ultralytics, supervision) use
``cv2.fillPoly``, which also paints the outline, so YOLO polygons run through the mask's border pixels, in pixel
indices.

Both readers use the even-odd rule. A hole is joined to the outline around it by a line that runs there and back, and so
are the parts of a YOLO polygon, of which there may be only one per object; see ``labeler.geometry.bridges``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from labeler.geometry.bridges import Points, contours_and_hole_bridges, corner_contours, part_bridges, splice
from labeler.geometry.crops import Crop, tight_crops
from labeler.geometry.masks import Rle
from labeler.opencv import opencv
from labeler.sizes import checked_size

Mask = npt.NDArray[np.bool_]
# Maximum outline of one mask's polygons, in pixels. pycocotools allocates a hundred bytes per pixel, and crashes if
# it gets no memory.
MAX_OUTLINE = 2**24


def mask_to_polygons(mask: Mask | Rle) -> list[list[int]]:
    """The COCO polygons of a mask, along pixel edges; ``pycocotools`` rasterises them to exactly the same mask.

    Args:
        mask: bool ``(H, W)``, or RLE.

    Returns:
        One polygon ``[x1, y1, x2, y2, ...]`` per 8-connected part, so none for an empty mask.
    """
    crop, offset = _rows_of(mask)
    if not crop.size:
        return []
    doubled = _doubled(crop)
    polygons = corner_contours(doubled)
    if len(polygons) > 1:
        polygons = list(splice(*contours_and_hole_bridges(doubled)))
    return [_simplify((polygon + 1) // 2 + offset).ravel().tolist() for polygon in polygons]


def mask_to_outlines(mask: Mask | Rle) -> list[Points]:
    """The closed lines between mask and background, along pixel edges: one around each 8-connected part and each hole.

    Args:
        mask: bool ``(H, W)``, or RLE.

    Returns:
        int32 ``(n, 2)`` each: the corners ``x, y``. Filled by the even-odd rule, the lines give the mask.
    """
    crop, offset = _rows_of(mask)
    if not crop.size:
        return []
    return [_simplify((contour + 1) // 2 + offset) for contour in corner_contours(_doubled(crop))]


def _doubled(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Twice the size. Pixel x becomes the pixels 2x and 2x + 1, which stand for its edges x and x + 1."""
    return (crop.astype(np.uint16) * 0x0101).view(np.uint8).repeat(2, axis=0)


def polygons_to_rle(polygons: Sequence[Sequence[float]], height: int, width: int) -> Rle:
    """The union of COCO polygons, as ``pycocotools`` rasterises them; the inverse of ``mask_to_polygons``.

    Raises:
        ValueError: there is no polygon, one is not a list of at least three points x, y, one has points far outside the
            image, or the size or the outline is too large to rasterise.
    """
    width, height = checked_size(width, height)
    checked = [_checked_polygon(polygon, width, height) for polygon in polygons]
    if not checked:
        raise ValueError("the segmentation is empty")
    if sum(_outline_length(polygon) for polygon in checked) > MAX_OUTLINE:
        raise ValueError(f"the outline of the polygons is longer than {MAX_OUTLINE} pixels")
    rle: Rle = coco_mask.merge(coco_mask.frPyObjects([polygon.tolist() for polygon in checked], height, width))
    return {"size": [height, width], "counts": rle["counts"]}


def ellipse_polygon(centre: tuple[float, float], radii: tuple[float, float], rotation: float = 0.0) -> list[float]:
    """A polygon ``[x1, y1, x2, y2, ...]`` around an ellipse.

    Args:
        centre, radii: x and y in pixels.
        rotation: in degrees, clockwise in the image.
    """
    angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    turn = np.deg2rad(rotation)
    along, across = radii[0] * np.cos(angles), radii[1] * np.sin(angles)
    xs = centre[0] + along * np.cos(turn) - across * np.sin(turn)
    ys = centre[1] + along * np.sin(turn) + across * np.cos(turn)
    return list(np.stack((xs, ys), axis=1).ravel().tolist())


def _checked_polygon(polygon: Sequence[float], width: int, height: int) -> npt.NDArray[np.float64]:
    """The coordinates x1, y1, x2, y2, ... as float64 ``(2n,)``."""
    try:
        values = np.array(polygon)
    except (TypeError, ValueError, OverflowError):  # nested lists of different lengths
        raise ValueError("a polygon is not a list of numbers") from None
    if values.dtype.kind not in "iuf":  # text, bools, None, integers of more than 64 bits
        raise ValueError("a polygon is not a list of numbers")
    values = values.astype(np.float64)
    if values.ndim != 1 or values.size < 6 or values.size % 2:
        raise ValueError("a polygon is not a list of at least three points x, y")
    # With points far outside or not finite, pycocotools runs out of memory or crashes.
    if not (np.abs(values) <= 2 * max(width, height)).all():
        raise ValueError("a polygon has points far outside the image")
    return values


def _outline_length(polygon: npt.NDArray[np.float64]) -> float:
    """The length of the closed outline in pixels; the memory that ``pycocotools`` needs is proportional to it."""
    points = polygon.reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def mask_to_single_polygon(mask: Mask | Rle) -> Points:
    """One closed polygon for ``cv2.fillPoly``, with bridges to holes and between parts.

    ``fillPoly`` rasterises it to exactly the same mask if that has one 8-connected part. Otherwise the pixels of the
    bridges between parts are added.

    Args:
        mask: bool ``(H, W)``, or RLE.

    Returns:
        int32 ``(n, 2)``: pixel indices ``x, y``. n is at least 3 (masks of one or two pixels repeat points), and 0 for
        an empty mask.
    """
    return _single_polygon(_crop_of(mask))


def masks_to_single_polygons(rles: Sequence[Rle]) -> Iterator[Points]:
    """``mask_to_single_polygon`` of each mask, much faster than one by one; the masks have one size."""
    return map(_single_polygon, tight_crops(rles))


def _single_polygon(crop: Crop) -> Points:
    if not crop.columns.size:
        return np.zeros((0, 2), dtype=np.int32)
    polygon = _only_contour(crop.columns)
    if polygon is None:
        rows = opencv().transpose(crop.columns)
        contours, bridges = contours_and_hole_bridges(rows)
        if len(contours) - len(bridges) > 1:
            bridges += part_bridges(rows, contours)
        polygon = _simplify(next(splice(contours, bridges)))
    polygon += np.array([crop.x, crop.y], dtype=np.int32)
    return polygon if len(polygon) > 2 else np.pad(polygon, ((0, 3 - len(polygon)), (0, 0)), mode="edge")


def _only_contour(columns: npt.NDArray[np.uint8]) -> Points | None:
    """The corners of the contour of a mask that has one part and no hole; None for other masks.

    The contour is that of the transposed mask, so it is turned back: with x and y exchanged, the other way around, and
    from the first pixel of the top row.

    Args:
        columns: see ``Crop``.
    """
    contours = corner_contours(columns)
    if len(contours) > 1:
        return None
    contour = contours[0][::-1, ::-1]
    place = contour[:, 1].astype(np.int64) * columns.shape[0] + contour[:, 0]
    start = int(place.argmin())
    if np.count_nonzero(place == place[start]) > 1:  # it comes back there, and which visit is the first is not told
        return None
    return np.concatenate((contour[start:], contour[:start]))


def single_polygon_to_mask(polygon: npt.NDArray[np.float64], height: int, width: int) -> Mask:
    """Rasterise a polygon as Ultralytics does: truncate to whole pixels, then ``cv2.fillPoly``.

    Args:
        polygon: float64 ``(n, 2)``, x, y in pixels.

    Returns:
        bool ``(height, width)``.
    """
    mask = np.zeros((height, width), dtype=np.uint8)
    opencv().fillPoly(mask, [polygon.astype(np.int32)], color=1)
    return mask.view(np.bool_)


def _crop_of(mask: Mask | Rle) -> Crop:
    if isinstance(mask, dict):
        return next(tight_crops([mask]))
    cv2 = opencv()
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    rows = np.ascontiguousarray(mask[y : y + height, x : x + width]).view(np.uint8)
    return Crop(cv2.transpose(rows) if rows.size else rows, x, y)


def _rows_of(mask: Mask | Rle) -> tuple[npt.NDArray[np.uint8], Points]:
    """The mask inside its tight box, uint8, and the box's top left corner ``x, y``."""
    columns, x, y = _crop_of(mask)
    return opencv().transpose(columns) if columns.size else columns, np.array([x, y], dtype=np.int32)


def _simplify(polygon: Points) -> Points:
    """Remove points that repeat the one before, or lie on a straight line. Points where the line turns back stay."""
    before_x, before_y = _steps(polygon)
    moves = (before_x != 0) | (before_y != 0)
    polygon = polygon[moves] if moves.any() else polygon[:1]
    before_x, before_y = _steps(polygon)
    after_x, after_y = np.roll(before_x, -1), np.roll(before_y, -1)
    turns = (before_x * after_y != before_y * after_x) | (before_x * after_x + before_y * after_y <= 0)
    corners: Points = polygon[turns]
    return corners


def _steps(polygon: Points) -> tuple[Points, Points]:
    """The difference of each point to the one before it, in x and in y."""
    x, y = np.ascontiguousarray(polygon.T)
    return x - np.concatenate((x[-1:], x[:-1])), y - np.concatenate((y[-1:], y[:-1]))
