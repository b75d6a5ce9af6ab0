"""``--tile``: any kind of labeler, on the whole image and on overlapping tiles of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.errors import UsageError
from labeler.geometry.tiles import LEAST_AUTOMATIC_SIDE
from labeler.models.config import ModelConfig
from labeler.models.kinds.kind import LabelerKind, NeededModel
from labeler.models.kinds.wrapping import check_wrappable
from labeler.sizes import shown

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler

LEAST_TILE, MOST_TILE = 64, 999_999
OVERLAP, BELOW_OVERLAP = 0.25, 0.9


@dataclass(frozen=True)
class TiledKind:
    """See ``labeler.models.labelers.tiled``.

    Attributes:
        size: side of a tile in pixels; None chooses one for each image.
        overlap: share of a tile's side that its neighbour shows too.
    """

    kind: ClassVar[str] = "tiles"

    inner: LabelerKind
    size: int | None
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        check_wrappable(self.inner, "--tile")
        if self.size is not None and not LEAST_TILE <= self.size <= MOST_TILE:
            raise _bad_size(str(self.size))
        if not 0 <= self.overlap < BELOW_OVERLAP:
            raise UsageError(f"--tile-overlap must be a number from 0 to below {BELOW_OVERLAP:g}, not {self.overlap!r}")

    @property
    def asked(self) -> str:
        """As ``--tile`` takes it."""
        return "auto" if self.size is None else str(self.size)

    @property
    def least_side(self) -> int:
        """Length of the longer side from which an image may be divided."""
        return LEAST_AUTOMATIC_SIDE if self.size is None else self.size + 1

    def models(self, config: ModelConfig) -> Iterable[NeededModel]:
        return self.inner.models(config)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        tile = "auto" if self.size is None else self.size
        return {**self.inner.identity(config), "tile": tile, "tile_overlap": self.overlap}

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.models.labelers.tiled import TiledLabeler

        return TiledLabeler(
            self.inner.load(config), self.size, self.overlap, config.images_per_pass, config.max_instances
        )


def tiles_of(kind: LabelerKind) -> TiledKind | None:
    """The tiles that a labeler has somewhere within, if any."""
    while not isinstance(kind, TiledKind):
        inner: LabelerKind | None = getattr(kind, "inner", None)
        if inner is None:
            return None
        kind = inner
    return kind


def tile_size(text: str) -> int | None:
    """The size that ``--tile`` states; None for ``auto``.

    Raises:
        UsageError: it is neither ``auto`` nor a whole number.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and len(text) <= len(str(MOST_TILE)):
        return int(text)
    raise _bad_size(text)


def _bad_size(text: str) -> UsageError:
    return UsageError(
        f"--tile must be auto or a whole number of pixels from {LEAST_TILE} to {MOST_TILE}, not {shown(text)}"
    )
