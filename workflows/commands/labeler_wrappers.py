"""Options of what is wrapped around any kind of labeler: tiles, views and a second labeler."""

from __future__ import annotations

from dataclasses import dataclass

from labeler.errors import UsageError
from labeler.models.config import GROUP as MODELS
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.kinds.consensus import ConsensusKind, SecondLabeler
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.kinds import KINDS
from labeler.models.kinds.tiled import BELOW_OVERLAP, OVERLAP, TiledKind, tile_size
from labeler.setting import setting


@dataclass(frozen=True)
class WrapperOptions:
    """How often, and by whom, an image is labeled."""

    tile: str | None = setting(
        None,
        "also label overlapping tiles of N pixels, for small objects; auto chooses a size for each image",
        metavar="N|auto",
        group=MODELS,
        unset="no tiles",
    )
    tile_overlap: float | None = setting(
        None,
        "share of a tile's side that its neighbour shows too",
        metavar="P",
        group=MODELS,
        least=0,
        below=BELOW_OVERLAP,
        unset=f"{OVERLAP:g}",
    )
    views: str | None = setting(
        None,
        "also label the mirrored image, and record what both views agree on",
        choices=("mirror",),
        group=MODELS,
        unset="the image alone",
    )
    also: str | None = setting(
        None,
        "preset of a second labeler for the same images; what both find is recorded with their agreement",
        choices=tuple(PRESETS),
        group=MODELS,
        unset="none",
    )

    def around(self, kind: LabelerKind, model: ModelConfig) -> LabelerKind:
        """``kind`` with everything around it that these options ask for.

        Args:
            model: the models of ``kind``.

        Raises:
            UsageError: an option is out of its range, has no effect, or is not for ``kind``.
        """
        if self.tile is None and self.tile_overlap is not None:
            raise UsageError("--tile-overlap is for tiles; add --tile 640 or --tile auto")
        first = self._tiled(kind)
        second = self._second(kind, model)
        if self.views is None and second is None:
            return first
        return ConsensusKind(first, second, mirror=self.views == "mirror")

    def _second(self, kind: LabelerKind, model: ModelConfig) -> SecondLabeler | None:
        if self.also is None:
            return None
        preset = PRESETS[self.also]
        other = KINDS[preset.labeler]()
        if other == kind and (preset.detector, preset.segmenter) == (model.detector, model.segmenter):
            raise UsageError(f"--also {self.also}: these are the models that run already; choose another preset")
        return SecondLabeler(self._tiled(other), preset.detector, preset.segmenter)

    def _tiled(self, kind: LabelerKind) -> LabelerKind:
        if self.tile is None:
            return kind
        return TiledKind(kind, tile_size(self.tile), OVERLAP if self.tile_overlap is None else self.tile_overlap)
