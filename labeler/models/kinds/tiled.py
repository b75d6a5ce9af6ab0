"""``--tile``: any kind of labeler, on the whole image and on overlapping tiles of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.errors import UsageError
from labeler.models.config import ModelConfig
from labeler.models.kinds.kind import LabelerKind, NeededModel
from labeler.sizes import shown

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler

LEAST_TILE, OVERLAP = 64, 0.25


@dataclass(frozen=True)
class TiledKind:
    """See ``labeler.models.labelers.tiled``; ``size`` None chooses a size for each image."""

    inner: LabelerKind
    size: int | None
    overlap: float = OVERLAP

    kind: ClassVar[str] = "tiles"

    def models(self, config: ModelConfig) -> Iterable[NeededModel]:
        return self.inner.models(config)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        tile = "auto" if self.size is None else self.size
        return {**self.inner.identity(config), "tile": tile, "tile_overlap": self.overlap}

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.models.labelers.tiled import TiledLabeler

        return TiledLabeler(self.inner.load(config), self.size, self.overlap, config.batch_size, config.max_instances)


def tile_size(text: str) -> int | None:
    """The size that ``--tile`` states; None for ``auto``.

    Raises:
        UsageError: it is neither ``auto`` nor a whole number of ``LEAST_TILE`` or more.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and len(text) < 7 and int(text) >= LEAST_TILE:
        return int(text)
    raise UsageError(f"--tile must be auto or a whole number of pixels from {LEAST_TILE} to 999999, not {shown(text)}")
