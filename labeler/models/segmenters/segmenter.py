"""The interface of segmenters: images and prompts in, one mask with scores per prompt out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labeler.errors import UsageError
from labeler.geometry.masks import Rle
from labeler.models.detectors.detector import Image

OBJECT, BACKGROUND, PADDING = 1, 0, -1  # labels of points


@dataclass(frozen=True, eq=False)
class SegmentPrompts:
    """What to segment in one image: ``n`` objects, each described by the same parts, in pixels of the image.

    The parts and their meaning are those of segment-anything's ``SamPredictor.predict``.

    Attributes:
        boxes_xyxy: float32 ``(n, 4)``.
        points_xy: float32 ``(n, k, 2)``, with ``point_labels``.
        point_labels: int ``(n, k)``: 1 for a point on the object, 0 for one beside it, -1 for padding, whose point is
            ignored.
        masks: rough masks, bool ``(n, H, W)`` or ``n`` RLEs, at image size.
        multimask: let the model propose several masks for each prompt, and take the one that it estimates to be the
            best. For prompts that may mean several objects, such as a single point.
    """

    boxes_xyxy: NDArray[np.float32] | None = None
    points_xy: NDArray[np.float32] | None = None
    point_labels: NDArray[np.int_] | None = None
    masks: NDArray[np.bool_] | Sequence[Rle] | None = None
    multimask: bool = False

    @classmethod
    def of_boxes(cls, boxes_xyxy: NDArray[np.float32]) -> SegmentPrompts:
        """One object per box, float32 ``(n, 4)``."""
        return cls(boxes_xyxy=boxes_xyxy)

    @property
    def parts(self) -> tuple[object, ...]:
        """What describes each object; prompts with the same parts can be decoded in one call."""
        points = None if self.points_xy is None else self.points_xy.shape[1]
        return self.boxes_xyxy is not None, points, self.masks is not None, self.multimask

    def __len__(self) -> int:
        """The number of objects."""
        given = (self.boxes_xyxy, self.points_xy, self.masks)
        return next((len(part) for part in given if part is not None), 0)

    def __getitem__(self, rows: slice) -> SegmentPrompts:
        """The prompts of some of the objects."""
        return replace(
            self,
            boxes_xyxy=None if self.boxes_xyxy is None else self.boxes_xyxy[rows],
            points_xy=None if self.points_xy is None else self.points_xy[rows],
            point_labels=None if self.point_labels is None else self.point_labels[rows],
            masks=None if self.masks is None else self.masks[rows],
        )

    def check(self, height: int, width: int) -> None:
        """Check the prompts of an image of that size.

        Boxes may reach over the edge of the image, as those of detectors do.

        Raises:
            UsageError: a part has another shape than the others ask for, a label is unknown, or a point lies outside.
        """
        count = len(self)
        if self.boxes_xyxy is not None:
            _check_shape("boxes", self.boxes_xyxy, (count, 4))
            _check_finite("boxes", self.boxes_xyxy)
        if (self.points_xy is None) != (self.point_labels is None):
            raise UsageError("points need labels, and labels need points: give both, or neither")
        if self.points_xy is not None and self.point_labels is not None:
            per_prompt = self.points_xy.shape[1] if self.points_xy.ndim == 3 else 1
            _check_shape("points", self.points_xy, (count, per_prompt, 2))
            _check_shape("point labels", self.point_labels, (count, per_prompt))
            self._check_points(height, width)
        if self.masks is not None:
            shapes = [tuple(mask["size"]) if isinstance(mask, dict) else np.shape(mask) for mask in self.masks]
            if len(shapes) != count or any(shape != (height, width) for shape in shapes):
                raise UsageError(
                    f"rough masks must be {count} of {height} x {width} pixels (height x width), as the image, "
                    f"not {len(shapes)} of {' x '.join(map(str, shapes[0])) if shapes else 'none'}"
                )

    def _check_points(self, height: int, width: int) -> None:
        assert self.points_xy is not None
        assert self.point_labels is not None
        unknown = ~np.isin(self.point_labels, (OBJECT, BACKGROUND, PADDING))
        if unknown.any():
            raise UsageError(
                f"the label of a point must be 1 (object), 0 (background) or -1 (padding), "
                f"not {self.point_labels[unknown][0]}"
            )
        used = self.points_xy[self.point_labels != PADDING]
        _check_finite("points", used)
        outside = ~((used >= 0) & (used <= (width, height))).all(axis=1)
        if outside.any():
            x, y = used[outside][0]
            raise UsageError(f"the point ({x:g}, {y:g}) lies outside the image of {width} x {height} pixels")


def _check_shape(what: str, part: NDArray[np.generic], expected: tuple[int, ...]) -> None:
    if part.shape != expected:
        raise UsageError(f"{what} must be an array of shape {expected}, not {part.shape}")


def _check_finite(what: str, part: NDArray[np.float32]) -> None:
    if not np.isfinite(part).all():
        raise UsageError(f"{what} must be finite numbers of pixels")


@dataclass(frozen=True)
class SegmentedMask:
    """The mask of one prompt.

    Attributes:
        rle: the mask, at image size.
        area: its pixels.
        mask_score: the model's estimate of the mask's IoU; not clipped to [0, 1].
        stability: IoU of the masks at logit thresholds of +1 and -1, in [0, 1]. As ``calculate_stability_score`` of
            segment-anything (``utils/amg.py``) with its default offset, but at image size.
    """

    rle: Rle
    area: int
    mask_score: float
    stability: float


PendingMaskList = Callable[[], list[SegmentedMask]]


class Segmenter(Protocol):
    """Turns boxes, points and rough masks into masks."""

    def segment(self, images: Sequence[Image], prompts: Sequence[SegmentPrompts]) -> list[list[SegmentedMask]]:
        """Segment one object per prompt.

        Args:
            images: uint8 ``(H, W, 3)``, RGB, of any sizes.
            prompts: those of each image; there may be none.

        Returns:
            For each image its masks, in the order of its prompts.

        Raises:
            UsageError: see ``SegmentPrompts.check``.
        """
        ...


def begin_masks(
    segmenter: Segmenter, images: Sequence[Image], prompts: Sequence[SegmentPrompts]
) -> list[PendingMaskList]:
    """As ``segment``, but masks may still be encoded by other threads when this returns; the model is done.

    A segmenter that has such threads has a method ``begin`` that does this.

    Returns:
        For each image a function that waits for its masks and returns them.
    """
    own: Callable[[Sequence[Image], Sequence[SegmentPrompts]], list[PendingMaskList]] | None = getattr(
        segmenter, "begin", None
    )
    if own is not None:
        return own(images, prompts)
    return [lambda masks=masks: masks for masks in segmenter.segment(images, prompts)]  # type: ignore[misc]
