"""How many images the models get at a time: a fixed number, or the largest that fits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from labeler.models.config import LARGEST_AUTO_BATCH, ModelConfig
from labeler.models.devices import has_room_to_double, resolved_device


class BatchSize:
    """The number of images per batch. With ``most``, it is searched for on the batches of the run themselves.

    It doubles after a full batch that the models took as a whole, as long as there is room. The first batch that does
    not fit ends the search: it is halved, and so is the size. Nothing is computed only for the search.

    Args:
        images: the fixed number, or the number to start from.
        most: where to stop; None for a fixed number.
        has_room: whether twice the memory of the largest batch so far is there.
    """

    def __init__(self, images: int, most: int | None = None, has_room: Callable[[], bool] = lambda: True) -> None:
        self.images = images
        self._most = most
        self._has_room = has_room
        self._is_settled = most is None
        self._largest = 0

    @classmethod
    def of(cls, config: ModelConfig) -> BatchSize:
        """As ``--batch-size`` asks; only on CUDA, ``auto`` searches."""
        if not isinstance(config.batch_size, int) and (device := resolved_device(config.device)).startswith("cuda"):
            return cls(config.images_per_pass, LARGEST_AUTO_BATCH, partial(has_room_to_double, device))
        return cls(config.images_per_pass)

    @property
    def largest(self) -> int:
        """The largest batch that the models took as a whole; 0 for a fixed number."""
        return self._largest

    def fitted(self, count: int) -> None:
        """The models took a batch of ``count`` images."""
        if self._most is None:
            return
        self._largest = max(self._largest, count)
        if not self._is_settled and count >= self.images:
            if self.images < self._most and self._has_room():
                self.images = min(2 * self.images, self._most)
            else:
                self._is_settled = True

    def exceeded(self, count: int) -> None:
        """A batch of ``count`` images failed, although each of its images could be labeled."""
        if self._most is not None:
            self.images = max(1, min(self.images, count // 2))
            self._is_settled = True
