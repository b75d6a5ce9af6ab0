"""Turns a folder of images and a list of words into a segmentation dataset.

``GroundedSAM`` is the autodistill model. It is imported on first use, so that importing this package stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labeler.plugin import GroundedSAM

__all__ = ["GroundedSAM"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "GroundedSAM":
        from labeler.own_packages import check_own_packages

        check_own_packages()  # the plugin imports ``ontologies``
        from labeler.plugin import GroundedSAM

        return GroundedSAM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
