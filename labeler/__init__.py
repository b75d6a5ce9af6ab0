"""Images and words in, segmentation dataset out.

``GroundedSAM`` is the autodistill model; it is loaded when first asked for, so that importing this package stays quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labeler.plugin import GroundedSAM

__all__ = ["GroundedSAM"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "GroundedSAM":
        from labeler.plugin import GroundedSAM

        return GroundedSAM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
