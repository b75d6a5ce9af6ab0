"""Plan the files of a dataset: image, labels and cut-outs of each image, COCO and verdicts for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from labeler.errors import ImageError
from labeler.files.images import ImageFile
from labeler.formats.coco import HEAD, CocoWriter
from labeler.formats.cutout_config import CutoutConfig
from labeler.formats.cutouts import write_cutouts
from labeler.formats.names import FlatNames
from labeler.formats.splits import SPLITS
from labeler.formats.yolo import data_yaml, yolo_labels
from labeler.quality import Judgement
from labeler.records import ImageRecord, Instance
from workflows.dataset.dataset import Dataset
from workflows.dataset.images import PlacedImage, label_name
from workflows.dataset.journal import VERDICTS
from workflows.dataset.planning import Plan
from workflows.dataset.verdicts import VerdictWriter

if TYPE_CHECKING:
    from workflows.settings.export import ExportConfig


class DatasetFiles:
    """Plans the files of one image at a time; on leaving without an error, the files about all images."""

    def __init__(
        self, dataset: Dataset, class_names: Sequence[str], config: ExportConfig, coco_head: str = HEAD
    ) -> None:
        self._dataset = dataset
        self._class_names = class_names
        self._config = config
        self._images: Counter[str] = Counter()
        self._cutouts = _CutoutFolder(dataset, class_names, config.cutouts)
        self._writers = ExitStack()
        self._coco_head = coco_head
        self._coco: dict[str, CocoWriter] = {}
        for split in ("train", "val", *(["test"] if config.test_share else [])):
            self._coco_of(split)
        self._verdicts = self._writers.enter_context(VerdictWriter(dataset.destination.building / VERDICTS))

    def add(
        self, record: ImageRecord, judgements: Sequence[Judgement], placed: PlacedImage, file_name: str, split: str
    ) -> int:
        """Plan the files of an image; returns the number of its instances in the dataset.

        Raises:
            ImageError: a file cannot be created; the image is left out of the dataset then.
        """
        config = self._config
        wanted = ("accept", "review") if config.include_review else ("accept",)
        chosen = tuple(i for i, j in zip(record.instances, judgements, strict=True) if j.verdict in wanted)
        kept = replace(record, instances=chosen)
        plans = [placed.plan] if placed.plan else []
        if "yolo" in config.formats:
            name = label_name(split, file_name)
            plans.append(self._dataset.files.plan_file(name, yolo_labels(kept).encode("ascii"), record.image_id))
        if "cutouts" in config.formats and not (placed.plan and placed.plan.edited):
            plans += self._cutouts.write(record, chosen, ImageFile(placed.path, placed.frame))
        self._dataset.commit(plans)
        self._verdicts.add(record, judgements)
        self._images[split] += 1
        if coco := self._coco_of(split):
            coco.add(kept, file_name if config.link != "none" else str(placed.path))
        return len(chosen)

    def _coco_of(self, split: str) -> CocoWriter | None:
        if "coco" not in self._config.formats:
            return None
        if split not in self._coco:
            path = self._dataset.destination.building / "annotations" / f"instances_{split}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = CocoWriter(path, self._class_names, self._config.segmentation, self._coco_head)
            self._coco[split] = self._writers.enter_context(writer)
        return self._coco[split]

    def __enter__(self) -> DatasetFiles:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        self._writers.__exit__(error, *details)  # type: ignore[arg-type]
        if error is not None:
            return
        dataset = self._dataset
        dataset.commit(dataset.files.plan_made(f"annotations/instances_{split}.json") for split in self._coco)
        dataset.publish_beside(VERDICTS)
        if "yolo" in self._config.formats and self._config.link != "none":
            # Ultralytics needs train and val, so one without images uses those of another split.
            present = [split for split in SPLITS if self._images[split]] or ["train"]
            folders = {split: split if split in present else present[0] for split in ("train", "val")}
            folders |= {"test": "test"} if "test" in present else {}
            dataset.commit([dataset.files.plan_file("data.yaml", data_yaml(self._class_names, folders).encode())])


class _CutoutFolder:
    """The cut-outs of all images, numbered by the index of the instance in its record."""

    def __init__(self, dataset: Dataset, class_names: Sequence[str], config: CutoutConfig) -> None:
        self._dataset = dataset
        self._class_names = class_names
        self._config = config
        self._names = FlatNames()

    def write(self, record: ImageRecord, chosen: Sequence[Instance], source: ImageFile) -> list[Plan]:
        """Cut the instances ``chosen`` out of the image of ``record``.

        Raises:
            ImageError: the image can no longer be read, or has changed.
        """
        name = self._names.give(record.image_id)
        if not chosen:
            return []
        image = source.read()
        if record.digest not in (image.digest, image.source):
            raise ImageError("the image has changed since it was labeled; label it again")
        indices = {id(instance): index for index, instance in enumerate(record.instances)}
        numbered = [(indices[id(each)], each, self._class_names[each.class_id]) for each in chosen]
        folder = self._dataset.destination.building / "cutouts"
        folder.mkdir(exist_ok=True)
        names = write_cutouts(folder, name, image.pixels, numbered, self._config)
        return [self._dataset.files.plan_made(f"cutouts/{each}") for each in names]
