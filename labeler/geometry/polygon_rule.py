"""How polygons are made of masks: the settings, without what carries them out (see ``simplification``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PolygonRule:
    """How polygons are made of masks.

    Attributes:
        simplify: how far an outline may be from the exact one, in pixels; 0 for the exact one.
        min_part: parts of a mask with fewer pixels are left out; the largest part always stays.
    """

    simplify: float = 0.0
    min_part: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether readers rasterise the polygons to the masks."""
        return self.simplify <= 0 and self.min_part <= 1


EXACT = PolygonRule()
