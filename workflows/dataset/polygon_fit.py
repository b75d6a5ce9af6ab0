"""How near the polygons of a dataset are to the masks that they stand for, where they are not exact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from labeler.geometry.masks import mask_iou, rle_area
from labeler.geometry.simplification import coco_outlines, single_polygon_iou, without_small_parts, yolo_polygons
from workflows.settings.export import ExportConfig

if TYPE_CHECKING:
    from labeler.records import ImageRecord


class PolygonFit(NamedTuple):
    """Of the polygons of one image.

    Attributes:
        coco_iou, yolo_iou: IoU of each object's mask and what readers rasterise its polygons to; empty without the
            formats, and where polygons are exact.
        trimmed: objects with a part that is left out for its size.
    """

    coco_iou: Sequence[float] = ()
    yolo_iou: Sequence[float] = ()
    trimmed: int = 0


EXACT_FIT = PolygonFit()


def fit_of(record: ImageRecord, config: ExportConfig) -> PolygonFit:
    """The fit of an image's polygons; ``record`` has the instances of the dataset."""
    rule, yolo, coco = config.polygons, "yolo" in config.formats, bool(config.with_coco_polygons)
    if rule.is_exact or not (yolo or coco):
        return EXACT_FIT
    rles = [each.rle for each in record.instances if rle_area(each.rle)]
    outlines = zip(rles, coco_outlines(rles, rule), strict=True) if coco else ()
    polygons = zip(rles, yolo_polygons(rles, rule), strict=True) if yolo else ()
    return PolygonFit(
        [float(mask_iou([rle], [outline.drawn])[0, 0]) for rle, outline in outlines],
        [single_polygon_iou(rle, polygon) for rle, polygon in polygons],
        sum(without_small_parts(rle, rule.min_part) is not rle for rle in rles),
    )


@dataclass
class Ious:
    """The mean and the lowest of many IoUs, and the image with the lowest."""

    objects: int = 0
    total: float = 0.0
    lowest: float = 1.0
    image_id: str = ""

    def add(self, image_id: str, values: Sequence[float]) -> None:
        for value in values:
            self.objects += 1
            self.total += value
            if value < self.lowest or not self.image_id:
                self.lowest, self.image_id = value, image_id

    def figures(self) -> dict[str, Any]:
        return {
            "objects": self.objects,
            "mean_iou": round(self.total / self.objects, 4),
            "lowest_iou": round(self.lowest, 4),
            "lowest_in": self.image_id,
        }

    def __str__(self) -> str:
        mean = self.total / self.objects
        return f"{self.objects} objects, IoU with their masks {mean:.3f} on average, lowest {self.lowest:.3f}"


@dataclass
class PolygonFits:
    """Takes in one image after the other, and then tells how near the polygons of a dataset are."""

    config: ExportConfig = field(default_factory=ExportConfig)
    coco: Ious = field(default_factory=Ious)
    yolo: Ious = field(default_factory=Ious)
    trimmed: int = 0

    def add(self, image_id: str, fit: PolygonFit) -> None:
        self.coco.add(image_id, fit.coco_iou)
        self.yolo.add(image_id, fit.yolo_iou)
        self.trimmed += fit.trimmed

    def figures(self) -> dict[str, Any]:
        """For ``run/summary.json``: by the formats that share polygons; empty where these are exact."""
        figures: dict[str, Any] = {formats: ious.figures() for formats, ious in self._measured()}
        return figures | ({"objects_without_small_parts": self.trimmed} if figures else {})

    def lines(self) -> Iterator[str]:
        """What to tell of it; nothing where polygons are exact."""
        config = self.config
        if config.polygons.is_exact:
            return
        simplify = f"--simplify {config.simplify:g}" if config.simplify else ""
        flags = f"{simplify} --min-part {config.min_part}".strip() if config.min_part > 1 else simplify
        for formats, ious in self._measured():
            yield f"polygons of {formats} with {flags}: {ious} ({ious.image_id})"
        if self.trimmed:
            yield f"parts of fewer than {config.min_part} pixels are left out of the polygons of {self.trimmed} objects"
        if config.with_rle:
            told = f"masks of {', '.join(config.with_rle)} are exact RLE"
            yield f"{told}; with --segmentation polygon, {flags} applies to them, too"
        elif "yolo" not in config.formats and not config.with_coco_polygons:
            yield f"{flags} has no effect: no polygons in {', '.join(config.formats)}"

    def _measured(self) -> Iterator[tuple[str, Ious]]:
        for formats, ious in ((", ".join(self.config.with_coco_polygons), self.coco), ("yolo", self.yolo)):
            if ious.objects:
                yield formats, ious
