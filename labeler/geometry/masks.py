"""Masks: bool arrays and COCO run-length encoding, what is measured on them, and cleaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from labeler.opencv import opencv
from labeler.sizes import checked_size, shown


class Rle(TypedDict):
    """COCO compressed RLE: ``size`` is ``[height, width]``, ``counts`` the compressed runs in column order."""

    size: list[int]
    counts: bytes


def mask_to_rle(mask: npt.NDArray[np.bool_]) -> Rle:
    """Encode a bool mask (H, W)."""
    rle: Rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"]}


def rle_to_mask(rle: Rle) -> npt.NDArray[np.bool_]:
    """Decode to a bool mask (H, W), column-major in memory as RLE is.

    Raises:
        ValueError: as ``rle_runs``.
    """
    height, width = rle["size"]
    runs = rle_runs(rle)
    values = np.arange(runs.size, dtype=np.uint8) & 1
    return np.repeat(values, runs).view(np.bool_).reshape(width, height).T


def rle_runs(rle: Rle) -> npt.NDArray[np.int64]:
    """Lengths of the runs, background first, in column order; they sum to H × W.

    The one place where counts are checked; ``pycocotools`` trusts what it is given. The encoding is ``rleToString``
    of the COCO API: five bits a character, low ones first, from the fourth run on the difference to the last but one.

    Raises:
        ValueError: the counts are torn or do not fit the size.
    """
    codes = np.frombuffer(rle["counts"], dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(codes & 32 == 0)
    if not codes.size or codes.min() < 0 or codes.max() > 63 or not last.size or last[-1] != codes.size - 1:
        raise ValueError("RLE counts are not a whole COCO string")
    first = np.concatenate(([0], last[:-1] + 1))
    digits = last - first + 1
    if digits.max() > 8:
        raise ValueError("RLE counts hold a run longer than any image")
    place = 5 * (np.arange(codes.size) - np.repeat(first, digits))
    runs = np.add.reduceat((codes & 31) << place, first)
    runs -= np.where(codes[last] & 16, 1 << 5 * digits, 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    height, width = rle["size"]
    # A run longer than the mask is looked for too, so that no sum can overflow and come out right.
    if runs.min() < 0 or runs.max() > height * width or runs.sum() != height * width:
        raise ValueError(f"RLE counts sum to {runs.sum()}, expected {height} x {width} = {height * width}")
    return runs


def checked_rle(content: Any) -> Rle:
    """An RLE as JSON holds it, ``{"size": [height, width], "counts": text}``, once its size and counts are checked.

    Raises:
        ValueError: it is none: the size is no list of two sides, or is absurd, or the counts do not fit it.
    """
    size, counts = (content.get("size"), content.get("counts")) if isinstance(content, dict) else (None, None)
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f"expected a mask with a size of [height, width], not {shown(size)}")
    width, height = checked_size(size[1], size[0])
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")  # what is not ASCII is refused below
    if not isinstance(counts, bytes):
        raise ValueError(f"RLE counts must be text, not {shown(counts)}")
    # Seven characters are the longest run of so many pixels. A longer text would only cost memory.
    if len(counts) > 7 * (width * height + 2):
        raise ValueError(f"RLE counts are longer than any mask of {width} x {height} pixels needs")
    rle: Rle = {"size": [height, width], "counts": counts}
    rle_runs(rle)
    return rle


def rle_crop(rle: Rle, x1: int, y1: int, x2: int, y2: int) -> npt.NDArray[np.bool_]:
    """The part of a mask in a box along pixel edges, bool (y2 - y1, x2 - x1).

    Only the box's columns are decoded: a small object on a large image stays cheap.
    """
    height = rle["size"][0]
    ends = np.clip(np.cumsum(rle_runs(rle)), x1 * height, x2 * height)
    values = np.arange(ends.size, dtype=np.uint8) & 1
    columns = np.repeat(values, np.diff(ends, prepend=x1 * height)).view(np.bool_)
    return np.ascontiguousarray(columns.reshape(-1, height)[:, y1:y2].T)


def rle_area(rle: Rle) -> int:
    """Number of foreground pixels."""
    return int(coco_mask.area(rle))


def rle_box_xyxy(rle: Rle) -> tuple[float, float, float, float]:
    """The tight box along pixel edges: ``x2`` is the last column + 1; four zeros for an empty mask."""
    x, y, width, height = coco_mask.toBbox(rle).tolist()
    return x, y, x + width, y + height


def mask_iou(rles_a: Sequence[Rle], rles_b: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """Intersection over union of every pair, (n, m); 0 where both masks are empty. All of one size."""
    return _overlap(rles_a, rles_b, crowd=False)


def mask_containment(rles_a: Sequence[Rle], rles_b: Sequence[Rle]) -> npt.NDArray[np.float64]:
    """Share of each mask of ``rles_a`` that lies in each of ``rles_b``, (n, m): intersection / area of the first."""
    return _overlap(rles_a, rles_b, crowd=True)


def _overlap(rles_a: Sequence[Rle], rles_b: Sequence[Rle], crowd: bool) -> npt.NDArray[np.float64]:
    if not rles_a or not rles_b:
        return np.zeros((len(rles_a), len(rles_b)))
    # A "crowd" in the COCO API is what a detection may lie inside: the union becomes the detection's own area.
    overlap: npt.NDArray[np.float64] = coco_mask.iou(list(rles_a), list(rles_b), [int(crowd)] * len(rles_b))
    return overlap


def clean_mask(mask: npt.NDArray[np.bool_], share: float = 0.01) -> npt.NDArray[np.bool_]:
    """Drop specks and fill pinholes smaller than ``share`` of the mask's area.

    Specks are 8-connected parts of the mask; the largest always stays. Pinholes are 4-connected parts of the
    background that the mask encloses, seen after the specks are gone. As in segment-anything's
    ``remove_small_regions`` (``utils/amg.py``), but relative to the object and only inside its box.

    Args:
        mask: bool (H, W); not changed.
        share: in [0, 1]; 0 is off.

    Returns:
        bool (H, W), a new array unless there was nothing to do.
    """
    cv2 = opencv()
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    if share <= 0 or width == 0:
        return mask
    # The margin makes the outside one part, with label 1 at the corner.
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
