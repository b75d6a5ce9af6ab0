"""Tiles: the whole image and overlapping parts of it are labeled, so that small objects are seen at a larger scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from labeler.errors import LabelerError
from labeler.geometry.placed_masks import rle_placed
from labeler.geometry.tiles import AUTOMATIC_SIZES, LEAST_GAIN, Box, tile_boxes, tile_count
from labeler.models.labelers.labeler import Labeler, LabelRequest, detector_of
from labeler.models.labelers.tile_merging import Part, merge_parts
from labeler.records import Instance

if TYPE_CHECKING:
    from labeler.models.detectors.detector import Detector

AUTO_WITHOUT_OBJECTS = 640
OBJECTS_PER_TILE = 8  # sides of a small object in the side of an automatic tile
MOST_TILES = 10_000


@dataclass(frozen=True)
class TiledLabeler:
    """Labels the whole image and its tiles, and merges what they show; see ``labeler.models.labelers.tile_merging``.

    An image that is no larger than one tile is labeled whole only.

    Attributes:
        size: side of a tile in pixels; None to choose it for each image, see ``automatic_size``.
        overlap: share of a side that neighbouring tiles have in common, at least.
        batch_size: most tiles in a call of ``inner``.
        max_instances: maximum number of merged candidates per image, the best ones.
    """

    inner: Labeler
    size: int | None
    overlap: float
    batch_size: int
    max_instances: int

    @property
    def detector(self) -> Detector | None:
        return detector_of(self.inner)

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        whole = self.inner.label(requests)
        tiles = [self._tiles(*pair) for pair in zip(requests, whole, strict=True)]
        places = [(index, tile) for index, of_image in enumerate(tiles) for tile in of_image]
        parts: list[list[Part]] = [
            [Part.of(each, (0, 0, *_size(request)), *_size(request)) for each in found]
            for request, found in zip(requests, whole, strict=True)
        ]
        for (index, tile), found in zip(places, self._label_tiles(requests, places), strict=True):
            width, height = _size(requests[index])
            parts[index] += [Part.of(_placed(each, tile, width, height), tile, width, height) for each in found]
        return [
            merge_parts(of_image)[: self.max_instances] if of_tiles else found
            for of_image, of_tiles, found in zip(parts, tiles, whole, strict=True)
        ]

    def _label_tiles(
        self, requests: Sequence[LabelRequest], places: Sequence[tuple[int, Box]]
    ) -> Iterator[list[Instance]]:
        """What each tile shows, in its own coordinates; few tiles at a time, so memory does not grow with images."""
        for start in range(0, len(places), self.batch_size):
            batch = []
            for index, (x1, y1, x2, y2) in places[start : start + self.batch_size]:
                pixels = np.ascontiguousarray(requests[index].pixels[y1:y2, x1:x2])
                batch.append(replace(requests[index], pixels=pixels))
            yield from self._label_batch(batch)

    def _label_batch(self, batch: Sequence[LabelRequest]) -> list[list[Instance]]:
        """``batch`` at once, or in halves if that fails: a device may have memory for fewer tiles."""
        try:
            return self.inner.label(batch)
        except LabelerError:
            raise
        except Exception:
            if len(batch) == 1:
                raise
        # Outside the handler, so that the memory of the failed forward pass is free before the halves are tried.
        middle = len(batch) // 2
        return self._label_batch(batch[:middle]) + self._label_batch(batch[middle:])

    def _tiles(self, request: LabelRequest, whole: Sequence[Instance]) -> list[Box]:
        """The tiles of one image; none if it is labeled whole only.

        Raises:
            ValueError: there would be more than ``MOST_TILES``.
        """
        width, height = _size(request)
        size = self.size if self.size is not None else automatic_size(width, height, whole)
        if size is None or max(width, height) <= size:
            return []
        if (count := tile_count(width, height, size, self.overlap)) > MOST_TILES:
            raise ValueError(
                f"{width} x {height} pixels need {count} tiles of {size}, more than {MOST_TILES}; "
                "give a larger --tile or a smaller --tile-overlap"
            )
        return tile_boxes(width, height, size, self.overlap)


def automatic_size(width: int, height: int, whole: Sequence[Instance]) -> int | None:
    """The side of the tiles of an image, by the objects found in it as a whole; None for no tiles.

    Small objects are a quarter of all: the size is the first of ``AUTOMATIC_SIZES`` that is at least
    ``OBJECTS_PER_TILE`` times their side, the square root of the mask's area; ``AUTO_WITHOUT_OBJECTS`` if nothing was
    found. There are no tiles if that is none, or the longer side of the image is less than ``LEAST_GAIN`` times the
    size.
    """
    sides = sorted(each.area**0.5 for each in whole if each.area)
    if sides:
        wanted = OBJECTS_PER_TILE * sides[len(sides) // 4]
        size = next((each for each in AUTOMATIC_SIZES if each >= wanted), None)
    else:
        size = AUTO_WITHOUT_OBJECTS
    return size if size is not None and max(width, height) >= LEAST_GAIN * size else None


def _placed(instance: Instance, tile: Box, width: int, height: int) -> Instance:
    x, y = tile[:2]
    x1, y1, x2, y2 = instance.box_xyxy
    return replace(
        instance, box_xyxy=(x1 + x, y1 + y, x2 + x, y2 + y), rle=rle_placed(instance.rle, x, y, width, height)
    )


def _size(request: LabelRequest) -> tuple[int, int]:
    height, width = request.pixels.shape[:2]
    return width, height
