"""What is made of the records: the settings of an export, which a run folder remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from labeler.errors import UsageError
from labeler.formats.cutout_config import CutoutConfig
from labeler.formats.split_config import SPLIT_BY, SplitRule, check_split
from labeler.geometry.polygon_rule import PolygonRule
from labeler.quality_config import QualityConfig
from labeler.setting import check, setting
from labeler.sizes import shown

LINKS = ("hard", "symlink", "copy", "none")
FORMATS = ("coco", "yolo", "yolo-detect", "roboflow", "voc", "semantic", "hf", "cutouts", "webdataset")
WITH_CLASS_MASKS = ("voc", "semantic")  # these have a class per pixel
WITH_IMAGES = ("roboflow", "voc", "hf")  # these have the images beside their annotations
LAYOUTS = ("flat", "nested")
IMAGE_FILES = ("keep", "convert")
SEGMENTATIONS = ("rle", "polygon")
COCO_MASKS = ("coco", "webdataset", "roboflow")  # these have masks as --segmentation says; hf always has polygons
GROUP = "dataset"


@dataclass(frozen=True)
class ExportConfig:
    """What is made of the records.

    Attributes:
        quality: thresholds of the gate.
        link: how images come into the dataset; ``none`` leaves them where they are and names them by their full path
            or URI. ``hard`` and ``symlink`` are copies where input or output is a URI.
        min_tag_count, max_classes: where images proposed their classes: how many images must have a tag to make it a
            class, and how many classes there may be, the most frequent ones.
        segmentation: COCO masks as ``rle`` (exact at any scale, small) or ``polygon``.
        cutouts: what these look like.
        layout: None is ``flat`` in a new folder, and that of the dataset in others.
        image_files: ``convert`` those that ``labeler.formats.readers`` names for these formats; other pixels than those
            that were labeled never come out.
        dataset_shards: parts per split of the formats that have one file per split.
        version_datasets: see ``workflows.dataset.versions``; in a store it is refused.
        simplify, min_part: as in ``PolygonRule``, for all formats that have polygons.
    """

    quality: QualityConfig = field(default_factory=QualityConfig)
    include_review: bool = setting(False, "also write instances that are under review", negatable=True, group=GROUP)
    val_share: float = setting(0.2, "share of the images in the val split", metavar="P", group=GROUP, least=0, most=1)
    seed: int = setting(0, "seed of the split", metavar="N", group=GROUP)
    link: str = setting(
        "hard",
        "how images are placed in the dataset; with a URI, hard and symlink make copies",
        choices=LINKS,
        group=GROUP,
    )
    formats: tuple[str, ...] = setting(
        ("coco", "yolo"),
        "dataset formats to write",
        metavar="LIST",
        names=("--formats", "--format"),
        choices=FORMATS,
        group=GROUP,
    )
    segmentation: Literal["rle", "polygon"] = setting(
        "rle", "how COCO stores masks; rle is exact", choices=SEGMENTATIONS, group=GROUP
    )
    min_tag_count: int = setting(
        1,
        "with tags as classes: number of images that a tag needs to become a class",
        metavar="N",
        group=GROUP,
        least=1,
    )
    max_classes: int | None = setting(
        None,
        "with tags as classes: use only the N most frequent ones",
        metavar="N",
        group=GROUP,
        least=1,
        unset="no limit",
    )
    cutouts: CutoutConfig = field(default_factory=CutoutConfig)
    test_share: float = setting(0.0, "share of the images in the test split", metavar="P", group=GROUP, least=0, most=1)
    split_by: str = setting(
        "content",
        "which images stay in one split: copies of one image (content), those of one folder, or those whose path has "
        "the same first capture group, or match, of a regular expression",
        metavar=SPLIT_BY,
        group=GROUP,
    )
    layout: str | None = setting(
        None,
        "image files in one folder per split, which every trainer reads, or in the folders of the input",
        choices=LAYOUTS,
        group=GROUP,
        unset="flat; a dataset that is there keeps its layout",
    )
    image_files: Literal["keep", "convert"] = setting(
        "keep",
        "images that a tool for these formats cannot read, or reads other than they were labeled: keep and list them, "
        "or convert them to PNG without loss",
        choices=IMAGE_FILES,
        group=GROUP,
    )
    dataset_shards: int | None = setting(
        None,
        "write COCO and WebDataset in N parts per split, for datasets of millions of images",
        metavar="N",
        group=GROUP,
        least=1,
        most=10_000,
        unset="one file per split",
    )
    version_datasets: bool = setting(
        False,
        "also publish the dataset as an immutable version in OUT/versions, where `latest` is the newest one",
        negatable=True,
        group=GROUP,
    )
    simplify: float = setting(
        0.0,
        "leave out points of polygons, but move no outline by more than this many pixels; 0 is exact",
        metavar="PIXELS",
        group=GROUP,
        least=0,
    )
    min_part: int = setting(
        0,
        "leave parts of a mask with fewer pixels out of polygons; the largest part always stays",
        metavar="PIXELS",
        group=GROUP,
        least=0,
    )

    def __post_init__(self) -> None:
        check(self)
        check_split(self.split_rule)
        if {"yolo", "yolo-detect"}.issubset(self.formats):
            raise UsageError("formats: yolo and yolo-detect both write labels/; choose one of them for a folder")
        if self.link == "none" and (named := [name for name in self.formats if name in WITH_IMAGES]):
            raise UsageError(f"link none: {', '.join(named)} must hold the images; choose hard, symlink or copy")
        if self.link == "none" and self.image_files == "convert":
            raise UsageError(
                "link none: the dataset holds no images that could be converted; choose hard, symlink or copy, or "
                "image_files keep"
            )

    @property
    def split_rule(self) -> SplitRule:
        return SplitRule(self.split_by, self.val_share, self.test_share, self.seed)

    @property
    def polygons(self) -> PolygonRule:
        return PolygonRule(float(self.simplify), self.min_part)

    @property
    def with_rle(self) -> tuple[str, ...]:
        """The formats that have masks as RLE."""
        return tuple(name for name in self.formats if name in COCO_MASKS and self.segmentation == "rle")

    @property
    def with_coco_polygons(self) -> tuple[str, ...]:
        """The formats that have polygons along pixel edges."""
        kinds = ("hf", *(COCO_MASKS if self.segmentation == "polygon" else ()))
        return tuple(name for name in self.formats if name in kinds)

    @classmethod
    def from_dict(cls, content: object) -> ExportConfig:
        """The inverse of ``dataclasses.asdict``, also by way of JSON; what is left out keeps its default.

        Raises:
            UsageError: an unknown name, or a value of the wrong type or out of its range.
        """
        given = table(content, "export")
        quality, cutouts = table(given.get("quality", {}), "quality"), table(given.get("cutouts", {}), "cutouts")
        table(quality.get("class_accept_scores", {}), "class_accept_scores")
        for settings, values in ((cls, given), (CutoutConfig, cutouts)):
            known = {each.name for each in fields(settings)}
            if unknown := [name for name in values if name not in known]:
                raise UsageError(f"unknown setting {shown(unknown[0])}")
        formats = given.get("formats", ())
        more = {"formats": tuple(formats)} if isinstance(formats, list) else {}
        return cls(**{**given, **more, "quality": QualityConfig.from_dict(quality), "cutouts": CutoutConfig(**cutouts)})


def table(content: object, name: str) -> Mapping[str, Any]:
    """``content`` as a table of values by name.

    Raises:
        UsageError: it is something else.
    """
    if not isinstance(content, dict):
        raise UsageError(f"{name} cannot be {shown(content)}")
    return content
