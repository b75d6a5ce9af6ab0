"""Taggers: images in, tags with scores out. Each kind has its own file.

A tagger is anything with ``tag``. Taggers get loaded models; ``labeler.models.taggers`` loads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Tags = list[tuple[str, float]]


class Tagger(Protocol):
    """Names what is visible in images."""

    def tag(self, images: Sequence[Image]) -> list[Tags]:
        """Name what is visible in each image.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.

        Returns:
            For each image its (tag, score) pairs, with scores in [0, 1], best first, each tag once. They depend only on
            that image, not on the rest of the batch.
        """
        ...


def best_first(tags: dict[str, float]) -> Tags:
    """(tag, score) pairs, sorted by score, and by name if scores are equal."""
    return sorted(tags.items(), key=lambda item: (-item[1], item[0]))
