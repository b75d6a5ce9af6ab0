"""The matching of COCO: which detections of an image match which objects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def match_detections(
    ious: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    uncounted: NDArray[np.bool_],
    crowd: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The matching of ``COCOeval.evaluateImg`` for all IoU thresholds and ranges of object areas at once.

    Each detection in turn takes, of the objects that reach the threshold and are not taken yet, the counted one with
    the highest IoU, or else the uncounted one; the last one of equals. Crowds can be taken many times.

    Args:
        ious: (detections, objects), the best score first.
        thresholds: (thresholds,), ascending.
        uncounted: (ranges, objects), which objects do not count in a range.
        crowd: (objects,).

    Returns:
        Which detections match an object, and which of them an uncounted one; bool (ranges, detections, thresholds).
    """
    thresholds = np.minimum(thresholds, 1 - 1e-10)
    matched = np.zeros((len(uncounted), len(ious), len(thresholds)), dtype=np.bool_)
    ignored = matched.copy()
    reached = ious >= thresholds[0]
    rows, columns = reached.nonzero()
    alone = (reached.sum(axis=1)[rows] == 1) & (reached.sum(axis=0)[columns] == 1)  # no other detection or object
    singles, objects = rows[alone], columns[alone]
    matched[:, singles] = ious[singles, objects][:, None] >= thresholds
    ignored[:, singles] = matched[:, singles] & uncounted[:, objects][:, :, None]
    free = np.ones((len(uncounted), len(thresholds), ious.shape[1]), dtype=np.bool_)
    for detection in dict.fromkeys(rows[~alone].tolist()):
        near = reached[detection].nonzero()[0]
        overlap = ious[detection, near]
        possible = free[:, :, near] & (overlap >= thresholds[:, None])
        counted = possible & ~uncounted[:, None, near]
        possible &= counted | ~counted.any(axis=2, keepdims=True)
        # The last of equals is the first from behind.
        best = len(near) - 1 - np.where(possible, overlap, -1.0)[:, :, ::-1].argmax(axis=2)
        hit = possible.any(axis=2)
        taken = near[best]
        matched[:, detection] = hit
        ignored[:, detection] = hit & np.take_along_axis(uncounted, taken, axis=1)
        ranges, levels = hit.nonzero()
        free[ranges, levels, taken[hit]] = crowd[taken[hit]]
    return matched, ignored
