"""Plan the files of a dataset: image, labels, masks and cut-outs of each image, and files about the classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from labeler.errors import ImageError, UsageError
from labeler.files.images import ImageFile
from labeler.formats.cutouts import write_cutouts
from labeler.formats.names import FlatNames
from labeler.formats.semantic import MASKS, semantic_label_map, semantic_yaml
from labeler.formats.splits import SPLITS
from labeler.formats.voc import voc_label_map, with_file_name
from labeler.formats.yolo import data_yaml
from workflows.dataset.dataset import Dataset
from workflows.dataset.image_copies import ImageCopies
from workflows.dataset.image_formats import file_names_of, image_copies, voc_image_name, xml_name
from workflows.dataset.images import PlacedImage
from workflows.dataset.judging import JudgedImage
from workflows.dataset.planning import Plan

if TYPE_CHECKING:
    from workflows.settings.export import ExportConfig


class ImageFiles:
    """Plans the files of one image at a time."""

    def __init__(self, dataset: Dataset, class_names: Sequence[str], config: ExportConfig) -> None:
        self._dataset = dataset
        self._config = config
        self._copies = ImageCopies(dataset.files, dataset.originals, config.link)
        self._cutouts = _CutoutFolder(dataset, class_names, config)

    def add(self, image: JudgedImage, placed: PlacedImage, file_name: str, split: str) -> None:
        """Plan the files of an image.

        Raises:
            ImageError: a file cannot be created; the image is left out of the dataset then.
        """
        formats, files, image_id = self._config.formats, self._dataset.files, image.record.image_id
        plans = [placed.plan] if placed.plan else []
        plans += [self._copies.plan(placed, name, image_id) for name in image_copies(formats, split, file_name)]
        names = file_names_of(formats, split, file_name)
        for index, (name, digest) in enumerate(zip(names, image.digests, strict=True)):
            plans.append(files.plan_content(name, digest, image_id, lambda index=index: image.contents()[index]))  # type: ignore[misc]
        if "voc" in formats:
            try:
                xml = with_file_name(image.voc, voc_image_name(file_name))
            except UsageError as error:
                raise ImageError(str(error)) from None
            plans.append(files.plan_file(xml_name(file_name), xml.encode(), image_id))
        if "cutouts" in formats and not (placed.plan and placed.plan.edited):
            plans += self._cutouts.write(image, placed)
        self._dataset.commit(plans)


def plan_class_files(
    dataset: Dataset, class_names: Sequence[str], splits: Collection[str], config: ExportConfig
) -> None:
    """Plan the files about the classes; ``splits`` have images.

    Raises:
        UsageError: a format cannot express the name of a class.
    """
    # Ultralytics needs train and val, so one without images uses those of another split.
    present = [split for split in SPLITS if split in splits] or ["train"]
    folders = {split: split if split in present else present[0] for split in ("train", "val")}
    folders |= {"test": "test"} if "test" in present else {}
    texts = {}
    if config.link != "none" and {"yolo", "yolo-detect"}.intersection(config.formats):
        texts["data.yaml"] = data_yaml(class_names, folders)
    if config.link != "none" and "semantic" in config.formats:
        texts["semantic.yaml"] = semantic_yaml(class_names, folders)
    if "semantic" in config.formats:
        texts[f"{MASKS}/labelmap.txt"] = semantic_label_map(class_names)
    if "voc" in config.formats:
        texts["voc/labelmap.txt"] = voc_label_map(class_names)
    dataset.commit([dataset.files.plan_file(name, text.encode()) for name, text in texts.items()])


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
