"""Masks drawn by clicking: the segmenter, the embeddings of the last images, and the drafts of masks.

A draft is one state of one mask. Each click makes a new draft from the one before, so that undo needs no model.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Protocol

import numpy as np

from labeler.errors import LabelerError, UsageError
from labeler.geometry.masks import Rle, rle_area, rle_box_xyxy
from labeler.models.segmenters.segmenter import BACKGROUND, OBJECT, SegmentedMask, SegmentPrompts
from workflows.review.queue import ReviewQueue

Box = tuple[float, float, float, float]
EMBEDDING_BYTES = 2**29  # of the images that are kept; a few images of a large SAM
MAX_DRAFTS = 2000  # a draft is a run-length encoded mask of a few kilobytes


class PromptedSegmenter(Protocol):
    """A segmenter that embeds an image once for any number of prompts; see ``SamSegmenter``."""

    def encode(self, image: Any) -> Any: ...

    def decode(self, encoded: Any, prompts: SegmentPrompts) -> list[SegmentedMask]: ...


@dataclass(frozen=True)
class Draft:
    """A mask, and the prompts that it was made from.

    Attributes:
        image: its number in the queue.
        digest: of that image, as its record has it.
        box_xyxy: in pixels of the image, as are the points; None where points alone say what is meant.
        points: (x, y, label) in the order they were set.
        rle: the mask.
        mask_score: the model's estimate of the mask's IoU.
    """

    image: int
    digest: str
    box_xyxy: Box | None = None
    points: tuple[tuple[float, float, int], ...] = ()
    rle: Rle | None = None
    mask_score: float = 0.0


class Assistant:
    """Draws masks for the images of ``queue``. Any number of threads may ask; the model runs one call at a time.

    Args:
        load: makes the segmenter; it is called at once, in a thread of its own.
    """

    def __init__(self, queue: ReviewQueue, load: Callable[[], PromptedSegmenter]) -> None:
        self._queue = queue
        self._segmenter: PromptedSegmenter | None = None
        self._fault = ""
        self._model_lock = threading.Lock()
        self._encoded: OrderedDict[int, tuple[Any, int]] = OrderedDict()  # by image: embeddings, and their bytes
        self._drafts: OrderedDict[int, Draft] = OrderedDict()
        self._numbers = count(1)
        threading.Thread(target=self._load, args=(load,), name="load-segmenter", daemon=True).start()

    @property
    def is_loaded(self) -> bool:
        """Whether the segmenter is there.

        Raises:
            UsageError: it could not be loaded.
        """
        if self._fault:
            raise UsageError(self._fault)
        return self._segmenter is not None

    def prepare(self, image: int) -> None:
        """Embed an image ahead of the first click on it; errors as ``from_box``."""
        with self._model_lock:
            self._embeddings(image)

    def from_box(self, image: int, box_xyxy: Box) -> int:
        """Start a mask anew with a box, and return the draft's number.

        Raises:
            IndexError: there is no such image.
            ImageError: the image is gone, or it has changed since it was labeled.
            UsageError: the box has no area in the image, or the segmenter is not loaded or fails on this image.
        """
        return self._drawn(Draft(image, self._queue.digest(image), box_xyxy))

    def from_point(self, image: int, point: tuple[float, float, int], mask: Rle | None = None) -> int:
        """Start with a point, on an existing mask or on nothing; errors as ``from_box``.

        Args:
            point: x, y and label.
        """
        if mask is None or not rle_area(mask):
            if point[2] == BACKGROUND:
                raise UsageError("nothing is drawn yet: click on the object first, or drag a box around it")
            return self._drawn(Draft(image, self._queue.digest(image), points=(point,)))
        return self._drawn(Draft(image, self._queue.digest(image), rle_box_xyxy(mask), (point,), mask))

    def add_point(self, number: int, image: int, point: tuple[float, float, int]) -> int:
        """A draft with one more point; errors as ``from_box`` and ``draft``."""
        before = self.draft(number, image)
        return self._drawn(replace(before, points=(*before.points, point)))

    def draft(self, number: int, image: int) -> Draft:
        """A draft on that image.

        Raises:
            UsageError: there is none, because it is too long ago.
        """
        draft = self._drafts.get(number)
        if draft is None or draft.image != image:
            raise UsageError("this mask was drawn too long ago; draw it again")
        return draft

    def finished(self, number: int, image: int) -> tuple[Rle, str]:
        """The mask of a draft on that image, and the image's digest.

        Raises:
            UsageError: as ``draft``; or the mask is empty.
        """
        draft = self.draft(number, image)
        if draft.rle is None or not rle_area(draft.rle):
            raise UsageError("the mask is empty; click on the object, or drag a box around it")
        return draft.rle, draft.digest

    def _load(self, load: Callable[[], PromptedSegmenter]) -> None:
        try:
            self._segmenter = load()
        except LabelerError as error:
            self._fault = str(error).splitlines()[0]
        except Exception as error:  # the page says it, since nobody waits for this thread
            self._fault = f"the segmenter cannot be loaded: {_first_line(error)}"

    def _drawn(self, start: Draft) -> int:
        with self._model_lock:
            encoded, (height, width) = self._embeddings(start.image)
            draft = replace(start, box_xyxy=_grown(start, width, height))
            assert self._segmenter is not None  # _embeddings needs it
            try:
                (mask,) = self._segmenter.decode(encoded, _prompts(draft))
            except LabelerError:
                raise
            except Exception as error:
                raise UsageError(f"the segmenter failed on this image: {_first_line(error)}") from error
            number = next(self._numbers)
            self._drafts[number] = replace(draft, rle=mask.rle, mask_score=mask.mask_score)
            if len(self._drafts) > MAX_DRAFTS:
                self._drafts.popitem(last=False)
            return number

    def _embeddings(self, image: int) -> tuple[Any, tuple[int, int]]:
        """Embeddings of an image, and its (height, width); the images used last stay."""
        if not self.is_loaded or self._segmenter is None:
            raise UsageError("the segmenter is still being loaded")
        if image not in self._encoded:
            pixels = self._queue.image(image).pixels
            try:
                encoded = self._segmenter.encode(pixels)
            except LabelerError:
                raise
            except Exception as error:
                raise UsageError(f"the segmenter failed on this image: {_first_line(error)}") from error
            size = sum(level.nbytes for level in encoded.embeddings)
            self._encoded[image] = (encoded, pixels.shape[:2]), size
            while len(self._encoded) > 1 and sum(size for _, size in self._encoded.values()) > EMBEDDING_BYTES:
                self._encoded.popitem(last=False)
        self._encoded.move_to_end(image)
        found: tuple[Any, tuple[int, int]] = self._encoded[image][0]
        return found


def _grown(draft: Draft, width: int, height: int) -> Box | None:
    """The box, clipped to the image and grown to hold the points on the object: a box keeps the mask inside it.

    Raises:
        UsageError: a point lies outside the image, or the box has no area in it.
    """
    for x, y, _ in draft.points:
        if not (0 <= x <= width and 0 <= y <= height):
            raise UsageError(f"the point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels")
    if draft.box_xyxy is None:
        return None
    x1, y1, x2, y2 = draft.box_xyxy
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    if not (x1 < x2 and y1 < y2):
        raise UsageError("the box has no area in the image")
    on_object = [(x, y) for x, y, label in draft.points if label == OBJECT]
    xs, ys = [x for x, _ in on_object], [y for _, y in on_object]
    return min([x1, *xs]), min([y1, *ys]), max([x2, *xs]), max([y2, *ys])


def _prompts(draft: Draft) -> SegmentPrompts:
    """The prompts of the next mask: box, all points, and the mask before, as SAM is trained to refine masks.

    See Kirillov et al. 2023, arXiv 2304.02643, appendix A, "Training algorithm".
    """
    box, points = draft.box_xyxy, draft.points
    has_mask = draft.rle is not None and rle_area(draft.rle) > 0
    return SegmentPrompts(
        boxes_xyxy=None if box is None else np.array([box], np.float32),
        points_xy=np.array([[point[:2] for point in points]], np.float32) if points else None,
        point_labels=np.array([[label for _, _, label in points]], np.int64) if points else None,
        masks=[draft.rle] if draft.rle is not None and has_mask else None,
        multimask=box is None and not has_mask and len(points) == 1,
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
