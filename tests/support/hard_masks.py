"""Masks that are hard to write, and seeded random ones; bool (H, W), never empty."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def _disc(size: int, x: int, y: int, radius: int) -> Mask:
    rows, columns = np.mgrid[:size, :size]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def _drawn(height: int, width: int, *boxes_xyxy: tuple[int, int, int, int]) -> Mask:
    mask = np.zeros((height, width), dtype=bool)
    for x1, y1, x2, y2 in boxes_xyxy:
        mask[y1:y2, x1:x2] ^= True
    return mask


def _spiral() -> Mask:
    mask = np.ones((21, 21), dtype=bool)
    x = y = 1
    dx, dy = 1, 0
    for length in (18, 18, 18, 16, 16, 14, 14, 12, 12, 10, 10, 8):
        for _ in range(length):
            mask[y, x] = False
            x, y = x + dx, y + dy
        dx, dy = -dy, dx
    return np.kron(mask, np.ones((3, 3), dtype=bool))


def _noise(share: float) -> Mask:
    return np.random.default_rng(1).random((60, 70)) < share


HARD_MASKS: dict[str, Mask] = {
    "holes": _disc(90, 45, 40, 38) ^ _disc(90, 30, 40, 6) ^ _disc(90, 55, 30, 1) ^ _disc(90, 60, 60, 0),
    "holes side by side": _drawn(50, 60, (2, 2, 58, 48), (5, 5, 20, 45), (21, 5, 40, 45), (41, 5, 42, 45)),
    "holes at a corner": _drawn(40, 40, (2, 2, 38, 38), (10, 10, 20, 20), (20, 20, 30, 30)),
    "hole open at a corner": _drawn(40, 40, (2, 2, 38, 38), (2, 2, 3, 3), (3, 3, 30, 30)),
    "nested islands": np.logical_xor.reduce([_disc(100, 50, 50, radius) for radius in (48, 40, 33, 25, 10, 4)]),
    "two parts": _disc(100, 30, 30, 25) | _disc(100, 75, 75, 20),
    "parts one pixel apart": _drawn(60, 60, (0, 0, 60, 30), (0, 31, 60, 60)),
    "one pixel": _drawn(9, 7, (3, 4, 4, 5)),
    "one pixel image": np.ones((1, 1), dtype=bool),
    "two pixels": _drawn(9, 7, (3, 4, 5, 5)),
    "two pixels by corner": _drawn(9, 7, (3, 4, 4, 5), (4, 5, 5, 6)),
    "last pixel": _drawn(30, 40, (39, 29, 40, 30)),
    "frame on every border": _drawn(50, 70, (0, 0, 70, 50), (1, 1, 69, 49)),
    "full image": np.ones((48, 64), dtype=bool),
    "diagonal": np.eye(40, dtype=bool),
    "diagonal blocks": np.kron(np.eye(10, dtype=bool), np.ones((6, 6), dtype=bool)),
    "thin lines": _drawn(60, 60, (0, 10, 60, 11), (30, 0, 31, 60), (5, 30, 55, 31)),
    "comb": _drawn(50, 99, (0, 40, 99, 50), *((x, 0, x + 1, 40) for x in range(0, 99, 2))),
    "checkerboard": np.indices((20, 20)).sum(axis=0) % 2 == 0,
    "spiral": _spiral(),
    "many parts": _drawn(80, 80, *((x, y, x + 7, y + 7) for x in range(0, 80, 10) for y in range(0, 80, 10))),
    "sparse noise": _noise(0.1),
    "dense noise": _noise(0.8),
}
# These have many small parts, which one polygon joins over the background, so YOLO cannot store them exactly.
SCATTERED = {"many parts", "sparse noise"}


def random_masks(count: int, seed: int = 0) -> Iterator[Mask]:
    """Noise and smooth blobs of various densities, up to 64 x 64, never empty."""
    rng = np.random.default_rng(seed)
    while count:
        values = rng.random(rng.integers(1, 65, size=2))
        if rng.random() < 0.7:
            values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.5, 8))
        mask = values > np.quantile(values, rng.random())
        if mask.any():
            count -= 1
            yield mask


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / (a | b).sum())
