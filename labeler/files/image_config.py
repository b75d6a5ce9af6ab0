"""How images are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labeler.setting import check, setting

GROUP = "reading images"
INTENSITIES = ("auto", "full", "minmax", "percentile")
Intensity = Literal["auto", "full", "minmax", "percentile"]
MAX_MEGAPIXELS = 179.0
MOST_MEGAPIXELS = 4_000.0


@dataclass(frozen=True)
class ImageConfig:
    """How images are read.

    Attributes:
        intensity: how more than 8 bits per channel become 8. ``auto`` scales 16-bit images from the fewest bits, of
            8, 10, 12, 14 and 16, that hold all values of the image; ``full`` from all 16; ``minmax`` from the image's
            minimum and maximum; ``percentile`` from its percentiles 0.5 and 99.5, which ignores a few outliers. None
            stands for what a run folder was labeled with, and for ``auto`` in a new one. It decides the records.
        frames: ``all`` also lists the further pages and frames of a file, see ``labeler.files.frames``.
        max_megapixels: larger images are failures.
        read_ahead: bounds the decoded images that wait for the models, in MB; one image may always wait.
    """

    intensity: Intensity | None = setting(
        None,
        "how images of more than 8 bits per channel become 8-bit: from the bits in use, from all bits, from minimum "
        "to maximum, or without the outermost 0.5% on both sides",
        choices=INTENSITIES,
        group=GROUP,
        unset="auto; in an existing folder, as it was labeled",
    )
    frames: Literal["first", "all"] = setting(
        "first",
        "pages of TIFF and frames of GIF, WebP, PNG, AVIF and HEIC files to label",
        choices=("first", "all"),
        group=GROUP,
    )
    max_megapixels: float = setting(
        MAX_MEGAPIXELS, "images with more pixels are failures", metavar="MP", group=GROUP, above=0, most=MOST_MEGAPIXELS
    )
    read_ahead: int = setting(
        1024,
        "memory for decoded images that wait for the models, per worker; a larger image waits alone",
        metavar="MB",
        group=GROUP,
        least=1,
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def max_pixels(self) -> int:
        return int(self.max_megapixels * 1e6)
