"""Masks as bool arrays and as COCO run-length encoding (RLE): conversion, checks, measurements and cleaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from labeler.opencv import opencv
from labeler.sizes import checked_size, shown


class Rle(TypedDict):
    """COCO compressed RLE: ``size`` is ``[height, width]``; ``counts`` are the compressed runs, column by column."""

    size: list[int]
    counts: bytes


def mask_to_rle(mask: npt.NDArray[np.bool_]) -> Rle:
    """Encode a mask, bool ``(H, W)``."""
    x, y, width, height = opencv().boundingRect(mask.view(np.uint8))
    return window_to_rle(mask[y : y + height, x : x + width], x, y, mask.shape[1], mask.shape[0])


def window_to_rle(window: npt.NDArray[np.bool_], left: int, top: int, width: int, height: int) -> Rle:
    """Encode a mask of an image of ``width`` x ``height`` pixels that lies in a window, bool ``(h, w)``.

    The result is that of ``pycocotools.mask.encode`` for the whole image, but only the window is read.
    """
    # A row of background above the window, whose runs begin and end within their columns.
    columns = np.zeros((window.shape[1], window.shape[0] + 1), dtype=np.bool_)
    columns[:, 1:] = window.T
    flat = columns.ravel()
    changes = np.flatnonzero(np.diff(flat, append=False))
    column, row = np.divmod(changes, window.shape[0] + 1)
    ends = (left + column) * height + top + row
    # A run to the bottom of a column continues at the top of the next one.
    joined = np.flatnonzero(ends[1:] == ends[:-1])
    ends = np.delete(ends, np.concatenate([joined, joined + 1]))
    return ends_to_rle(ends, width, height)


def ends_to_rle(ends: npt.NDArray[np.int64], width: int, height: int) -> Rle:
    """Encode a mask by where its runs end, column by column and ascending; the last run needs no end."""
    runs = np.diff(ends, prepend=0, append=height * width).tolist()
    if len(runs) > 1 and not runs[-1]:
        runs.pop()
    rle: Rle = coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    return {"size": [height, width], "counts": rle["counts"]}


def box_to_rle(box_xyxy: tuple[float, float, float, float], width: int, height: int) -> Rle:
    """The mask of a box in an image of that size, with the sides rounded to whole pixels, and at least one pixel.

    Raises:
        ValueError: the box has no area in the image.
    """
    x1, y1, x2, y2 = box_xyxy
    if not (min(x2, width) > max(x1, 0) and min(y2, height) > max(y1, 0)):
        raise ValueError("the box has no area in the image")
    left, top = (min(max(round(start), 0), side - 1) for start, side in ((x1, width), (y1, height)))
    right, bottom = max(min(round(x2), width), left + 1), max(min(round(y2), height), top + 1)
    box = np.array([[left, top, right - left, bottom - top]], dtype=np.float64)
    (rle,) = coco_mask.frPyObjects(box, height, width)
    return {"size": [height, width], "counts": rle["counts"]}


def rle_to_mask(rle: Rle) -> npt.NDArray[np.bool_]:
    """Decode a mask to bool ``(H, W)``, in column-major memory order, as in RLE.

    Raises:
        ValueError: see ``rle_runs``.
    """
    height, width = rle["size"]
    runs = rle_runs(rle)
    values = np.arange(runs.size, dtype=np.uint8) & 1
    return np.repeat(values, runs).view(np.bool_).reshape(width, height).T


def rle_runs(rle: Rle) -> npt.NDArray[np.int64]:
    """The lengths of the runs, int64 ``(n,)``: background first, column by column. They sum to H x W.

    Counts must be checked here before ``pycocotools`` gets them, because it does not check them. The encoding is that
    of ``rleToString`` in the COCO API (``common/maskApi.c``). Each character holds five bits, the lowest first. From
    the fourth run on, a run is stored as its difference to the run two before.

    Raises:
        ValueError: the counts are damaged or do not fit the size.
    """
    codes = np.frombuffer(rle["counts"], dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)
    if not codes.size or codes.min() < 0 or codes.max() > 63 or not last.size or last[-1] != codes.size - 1:
        raise ValueError("RLE counts are not a complete COCO string")
    first = np.concatenate(([0], last[:-1] + 1))
    digits = last - first + 1
    if digits.max() > 8:
        raise ValueError("RLE counts contain a run longer than any image")
    shift = 5 * (np.arange(codes.size) - np.repeat(first, digits))
    runs = np.add.reduceat((codes & 31) << shift, first)
    runs -= np.where(codes[last] & 16, 1 << 5 * digits, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    height, width = rle["size"]
    # Single runs are checked too: with runs that are too long, the sum could overflow to the expected value.
    if runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise ValueError(f"RLE counts sum to {runs.sum()}, expected {height} x {width} = {height * width}")
    return runs


def checked_rle(content: Any) -> Rle:
    """Check an RLE from JSON, ``{"size": [height, width], "counts": text}``.

    Raises:
        ValueError: it has another form, the size is impossible (see ``checked_size``), or the counts do not fit it.
    """
    size, counts = (content.get("size"), content.get("counts")) if isinstance(content, dict) else (None, None)
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f"expected a mask with a size of [height, width], not {shown(size)}")
    width, height = checked_size(size[1], size[0])
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")  # rle_runs refuses what is not ASCII
    if not isinstance(counts, bytes):
        raise ValueError(f"RLE counts must be text, not {shown(counts)}")
    # A run takes seven characters at most. Longer texts are refused before memory is spent on them.
    if len(counts) > 7 * (width * height + 2):
        raise ValueError(f"RLE counts are longer than any mask of {width} x {height} pixels needs")
    rle: Rle = {"size": [height, width], "counts": counts}
    rle_runs(rle)
    return rle


def rle_crop(rle: Rle, x1: int, y1: int, x2: int, y2: int) -> npt.NDArray[np.bool_]:
    """The part of a mask inside a box along pixel edges, bool ``(y2 - y1, x2 - x1)``.

    Only the columns of the box are decoded, so a small object in a large image is cheap.
    """
    height = rle["size"][0]
    ends = np.clip(np.cumsum(rle_runs(rle)), x1 * height, x2 * height)
    values = np.arange(ends.size, dtype=np.uint8) & 1
    columns = np.repeat(values, np.diff(ends, prepend=x1 * height)).view(np.bool_)
    return np.ascontiguousarray(columns.reshape(-1, height)[:, y1:y2].T)


def rle_area(rle: Rle) -> int:
    """The number of foreground pixels."""
    return int(coco_mask.area(rle))


def rle_box_xyxy(rle: Rle) -> tuple[float, float, float, float]:
    """The tight box along pixel edges, so ``x2`` is the last column plus 1; four zeros for an empty mask."""
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    return x, y, x + width, y + height


def mask_areas(rles: Sequence[Rle]) -> npt.NDArray[np.int64]:
    """``rle_area`` of each mask, int64 ``(n,)``."""
    return np.array([rle_area(rle) for rle in rles], dtype=np.int64)  # pycocotools takes 255 at a time


def mask_boxes(rles: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """``rle_box_xyxy`` of each mask, float64 ``(n, 4)``."""
    boxes: npt.NDArray[np.float64] = np.asarray(coco_mask.toBbox(list(rles)), dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def mask_union(rles: Sequence[Rle]) -> Rle:
    """The pixels of any of the masks, which have the same size; at least one is needed."""
    union: Rle = coco_mask.merge(list(rles))
    return union


def mask_iou(rles_a: Sequence[Rle], rles_b: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """Intersection over union of each pair of masks, float64 ``(n, m)`` in [0, 1]; 0 if both are empty.

    All masks have the same size.
    """
    return _overlap(rles_a, rles_b, crowd=False)


def mask_containment(rles_a: Sequence[Rle], rles_b: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """Intersection over the area of the first mask, for each pair of masks, float64 ``(n, m)`` in [0, 1].

    All masks have the same size.
    """
    return _overlap(rles_a, rles_b, crowd=True)


def _overlap(rles_a: Sequence[Rle], rles_b: Sequence[Rle], crowd: bool) -> npt.NDArray[np.float64]:
    if not rles_a or not rles_b:
        return np.zeros((len(rles_a), len(rles_b)))
    # For crowds, the COCO API divides by the area of the detection instead of the union.
    overlap: npt.NDArray[np.float64] = coco_mask.iou(list(rles_a), list(rles_b), [int(crowd)] * len(rles_b))
    return overlap


def clean_mask(mask: npt.NDArray[np.bool_], share: float = 0.01) -> npt.NDArray[np.bool_]:
    """Remove specks and fill pinholes that are smaller than ``share`` times the mask's area.

    Specks are 8-connected parts of the mask; the largest part always stays. Pinholes are 4-connected parts of the
    background that the mask encloses after specks are removed. This follows ``remove_small_regions`` of
    segment-anything (``utils/amg.py``), but the limit is relative to the object, and only its box is searched.

    Args:
        mask: bool ``(H, W)``; it is not changed.
        share: in [0, 1]; 0 changes nothing.

    Returns:
        bool ``(H, W)``: a new array, or ``mask`` itself if nothing changes.
    """
    cv2 = opencv()
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if share <= 0 or width == 0:
        return mask
    # The margin of one pixel connects all background outside the mask, so that the corner has its label.
    crop = np.zeros((height + 2, width + 2), dtype=np.uint8)
    crop[1:-1, 1:-1] = mask[y : y + height, x : x + width]
    limit = share * np.count_nonzero(crop)

    count, labels, stats, _ = cv2.connectedComponentsWithStats(crop, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    small = areas < limit
    small[0] = False
    small[1 + np.argmax(areas[1:])] = False
    dropped = bool(small.any())
    if dropped:
        crop[small[labels]] = 0

    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - crop, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < limit
    small[0] = small[labels[0, 0]] = False
    filled = count > 2 and bool(small.any())
    if filled:
        crop[small[labels]] = 1

    if not dropped and not filled:
        return mask
    cleaned = mask.copy()
    cleaned[y : y + height, x : x + width] = crop[1:-1, 1:-1]
    return cleaned
