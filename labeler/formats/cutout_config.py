"""What cut-outs look like; ``labeler.formats.cutouts`` writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labeler.setting import check, setting

BACKGROUNDS = ("white", "transparent")
FRAMES = ("crop", "full")
GROUP = "cut-outs"


@dataclass(frozen=True, slots=True)
class CutoutConfig:
    """What cut-outs look like.

    Attributes:
        background: ``white`` gives RGB files, ``transparent`` RGBA ones whose pixels are black where nothing shows.
        smooth_radius: pixels to either side of the mask's contour within which the edge fades; 0 leaves it hard.
        frame: ``crop`` to what shows, or the ``full`` image.
        margin: pixels around the crop, as far as the image reaches.
    """

    background: Literal["white", "transparent"] = setting(
        "white", "what is behind the object", choices=BACKGROUNDS, group=GROUP
    )
    smooth_radius: float = setting(
        2.0, "pixels within which the object's edge fades; 0: a hard edge", metavar="R", group=GROUP, least=0
    )
    frame: Literal["crop", "full"] = setting(
        "crop", "crop to the object, or the full image", choices=FRAMES, group=GROUP
    )
    margin: int = setting(0, "pixels around a crop", metavar="N", group=GROUP, least=0)

    def __post_init__(self) -> None:
        check(self)
