"""Plan the files of a dataset: image, labels and cut-outs of each image."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from labeler.errors import ImageError
from labeler.files.images import ImageFile
from labeler.formats.cutouts import write_cutouts
from labeler.formats.names import FlatNames
from labeler.formats.splits import SPLITS
from labeler.formats.yolo import data_yaml
from workflows.dataset.dataset import Dataset
from workflows.dataset.images import PlacedImage, label_name
from workflows.dataset.judging import JudgedImage
from workflows.dataset.planning import Plan

if TYPE_CHECKING:
    from workflows.settings.export import ExportConfig


class ImageFiles:
    """Plans the files of one image at a time."""

    def __init__(self, dataset: Dataset, class_names: Sequence[str], config: ExportConfig) -> None:
        self._dataset = dataset
        self._config = config
        self._cutouts = _CutoutFolder(dataset, class_names, config)

    def add(self, image: JudgedImage, placed: PlacedImage, file_name: str, split: str) -> None:
        """Plan the files of an image.

        Raises:
            ImageError: a file cannot be created; the image is left out of the dataset then.
        """
        plans = [placed.plan] if placed.plan else []
        if "yolo" in self._config.formats:
            name = label_name(split, file_name)
            image_id = image.record.image_id
            plans.append(self._dataset.files.plan_content(name, image.label_digest, image_id, image.label))
        if "cutouts" in self._config.formats and not (placed.plan and placed.plan.edited):
            plans += self._cutouts.write(image, placed)
        self._dataset.commit(plans)


def plan_data_yaml(dataset: Dataset, class_names: Sequence[str], splits: Collection[str]) -> None:
    """Plan ``data.yaml``; ``splits`` have images."""
    # Ultralytics needs train and val, so one without images uses those of another split.
    present = [split for split in SPLITS if split in splits] or ["train"]
    folders = {split: split if split in present else present[0] for split in ("train", "val")}
    folders |= {"test": "test"} if "test" in present else {}
    dataset.commit([dataset.files.plan_file("data.yaml", data_yaml(class_names, folders).encode())])


class _CutoutFolder:
    """The cut-outs of all images, numbered by the index of the instance in its record."""

    def __init__(self, dataset: Dataset, class_names: Sequence[str], config: ExportConfig) -> None:
        self._dataset = dataset
        self._class_names = class_names
        self._config = config.cutouts
        self._names = FlatNames()

    def write(self, image: JudgedImage, placed: PlacedImage) -> list[Plan]:
        """Cut the instances of the dataset out of their image, unless their files are there as they were made.

        Raises:
            ImageError: the image can no longer be read, or has changed.
        """
        record = image.record
        name = self._names.give(record.image_id)
        if not image.written:
            return []
        if (plans := self._there(image, placed, name)) is not None:
            return plans
        source = ImageFile(placed.path, placed.frame).read()
        if record.digest not in (source.digest, source.source):
            raise ImageError("the image has changed since it was labeled; label it again")
        judged = image.judged()
        instances = judged.decided.record.instances
        numbered = [(index, instances[index], self._class_names[instances[index].class_id]) for index in judged.chosen]
        files, folder = self._dataset.files, self._dataset.destination.building / "cutouts"
        folder.mkdir(exist_ok=True)
        names = write_cutouts(folder, name, source.pixels, numbered, self._config)
        digests = {each: files.digest_made(f"cutouts/{each}") for each in names}
        image.cutouts.add(record.image_id, {each.removeprefix(name): digest for each, digest in digests.items()})
        return [files.plan_made(f"cutouts/{each}", digest=digest) for each, digest in digests.items()]

    def _there(self, image: JudgedImage, placed: PlacedImage, name: str) -> list[Plan] | None:
        """Plans that keep all cut-outs of the image; None if one must be made, or the image may be another by now."""
        if placed.plan is None or placed.plan.operation is not None:
            return None
        if (known := image.cutouts.of(image.record.image_id)) is None:
            return None
        plans = [self._dataset.files.kept(f"cutouts/{name}{end}", digest) for end, digest in known.items()]
        kept = [plan for plan in plans if plan is not None]
        return kept if len(kept) == len(plans) else None
