"""Taggers: images in, tags with scores out; one file a kind.

A tagger is anything with ``tag``. Models are given to it, see ``labeler.models.prompters``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Tags = list[tuple[str, float]]


class Tagger(Protocol):
    def tag(self, images: Sequence[Image]) -> list[Tags]:
        """What is to be seen in each image.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.

        Returns:
            For each image (tag, score in [0, 1]), best first, each tag once; empty if there is none. They depend on
            that image alone.
        """
        ...


def best_first(tags: dict[str, float]) -> Tags:
    """By score, equal ones by name."""
    return sorted(tags.items(), key=lambda item: (-item[1], item[0]))
