"""What is made of the records: the settings of an export, which a run folder remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from labeler.errors import UsageError
from labeler.formats.cutouts import CutoutConfig
from labeler.quality import QualityConfig
from labeler.sizes import shown

LINKS = ("hard", "symlink", "copy", "none")
FORMATS = ("coco", "yolo", "cutouts")
SEGMENTATIONS = ("rle", "polygon")


@dataclass(frozen=True)
class ExportConfig:
    """What is made of the records.

    Attributes:
        quality: thresholds of the gate.
        include_review: write instances under review too, not only accepted ones.
        val_share: share of the images that goes to ``val``.
        seed: of the split.
        link: how images come into the dataset; ``none`` leaves them where they are and names them by their full path
            or URI. ``hard`` and ``symlink`` are copies where input or output is a URI.
        formats: ``coco``, ``yolo``, ``cutouts``.
        min_tag_count, max_classes: where images proposed their classes: images that a tag must be found in to become
            one, and how many there may be, the most frequent ones.
        segmentation: COCO masks as ``rle`` (exact at any scale, small) or ``polygon``.
        cutouts: what these look like.
    """

    quality: QualityConfig = field(default_factory=QualityConfig)
    include_review: bool = False
    val_share: float = 0.2
    seed: int = 0
    link: str = "hard"
    formats: tuple[str, ...] = ("coco", "yolo")
    segmentation: Literal["rle", "polygon"] = "rle"
    min_tag_count: int = 1
    max_classes: int | None = None
    cutouts: CutoutConfig = field(default_factory=CutoutConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.val_share <= 1:
            raise UsageError(f"val_share must be from 0 to 1, not {shown(self.val_share)}")
        for name, count in (
            ("min_tag_count", self.min_tag_count),
            ("max_classes", 1 if self.max_classes is None else self.max_classes),
        ):
            if count < 1:
                raise UsageError(f"{name} must be 1 or more, not {count}")
        for name, value, known in (
            ("link", self.link, LINKS),
            ("segmentation", self.segmentation, SEGMENTATIONS),
            *(("formats", name, FORMATS) for name in self.formats),
        ):
            if value not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")
