"""Very long and thin images, which processors would scale to fewer pixels than a model takes on their short side."""

from __future__ import annotations

import numpy as np

from labeler.models.detectors.detector import Image


def padded(image: Image, least: int) -> Image:
    """``image``, padded at the bottom or right with its mean colour so that no side has fewer than ``least`` pixels."""
    height, width = image.shape[:2]
    if min(height, width) >= least:
        return image
    whole = np.empty((max(height, least), max(width, least), 3), np.uint8)
    whole[:] = np.rint(image.mean((0, 1)))
    whole[:height, :width] = image
    return whole


def padded_to_ratio(image: Image, most: int) -> Image:
    """``image``, padded as by ``padded`` if one side is more than ``most`` times the other."""
    return padded(image, -(-max(image.shape[:2]) // most))
