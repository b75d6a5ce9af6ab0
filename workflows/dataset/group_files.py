"""The files about many images: COCO files and WebDataset, each of a split or of a part of one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labeler.files.conversion import png_bytes
from labeler.files.images import ImageFile
from labeler.files.storage import read_bytes
from labeler.formats.coco import HEAD, CocoWriter
from labeler.formats.parts import groups
from labeler.formats.splits import SPLITS
from labeler.formats.webdataset import SampleWriter

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.export import ExportConfig


def coco_names(config: ExportConfig, more: Collection[str] = ()) -> dict[str, str]:
    """The COCO files of a dataset, by group.

    Args:
        more: splits with images, besides those that a dataset always has.
    """
    if "coco" not in config.formats:
        return {}
    wanted = {"train", "val", *(["test"] if config.test_share else []), *more}
    splits = [split for split in SPLITS if split in wanted]
    return {group: f"annotations/instances_{group}.json" for group in groups(splits, config.dataset_shards)}


def sample_names(config: ExportConfig, splits: Sequence[str]) -> dict[str, str]:
    """The WebDataset files of a dataset, by group.

    Args:
        splits: those with images.
    """
    if "webdataset" not in config.formats:
        return {}
    return {group: f"webdataset/{group}.tar" for group in groups(splits, config.dataset_shards)}


class CocoFiles:
    """Writes COCO files, one image at a time.

    Args:
        building: the folder to write them in, under their later names.
        names: of the files, by group.
        class_names: by class id.
    """

    def __init__(
        self,
        building: Path,
        names: Mapping[str, str],
        class_names: Sequence[str],
        config: ExportConfig,
        head: str = HEAD,
    ) -> None:
        self._writers: dict[str, CocoWriter] = {}
        self._stack = ExitStack()
        for group, name in names.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = CocoWriter(path, class_names, config.segmentation, head)
            self._writers[group] = self._stack.enter_context(writer)

    def add(self, group: str, file_name: str, width: int, height: int, annotations: Sequence[str]) -> None:
        """Add an image with its ``coco_annotations``, if the file of its group is written."""
        if group in self._writers:
            self._writers[group].add_made(file_name, width, height, annotations)

    def __enter__(self) -> CocoFiles:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        self._stack.__exit__(error, *details)  # type: ignore[arg-type]


class SampleFiles:
    """Writes WebDataset files, one image at a time; arguments as in ``CocoFiles``."""

    def __init__(self, building: Path, names: Mapping[str, str]) -> None:
        self._writers: dict[str, SampleWriter] = {}
        self._stack = ExitStack()
        for group, name in names.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = SampleWriter(self._stack.enter_context(open(path, "wb")))  # noqa: SIM115 closed by the stack
            self._stack.callback(writer.close)
            self._writers[group] = writer

    def add(
        self, group: str, image_id: str, width: int, height: int, annotations: Sequence[str], image: SampleImage
    ) -> None:
        """Add an image with its ``coco_annotations``; the file of its group is written.

        Raises:
            ImageError: the image can no longer be converted.
            OSError: it can no longer be read.
        """
        self._writers[group].add(image_id, width, height, annotations, *image.content())

    def writes(self, group: str) -> bool:
        return group in self._writers

    def __enter__(self) -> SampleFiles:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        self._stack.__exit__(error, *details)  # type: ignore[arg-type]


class SampleImage(NamedTuple):
    """An image for WebDataset.

    Attributes:
        path: where it is now.
        suffix: that of its file in a dataset.
        frame: the number of a further frame in the file.
        convert: the file must become a PNG.
    """

    path: AnyPath
    suffix: str
    frame: int = 0
    convert: bool = False

    def content(self) -> tuple[str, bytes]:
        """Suffix and content of the file in a sample."""
        if self.convert:
            return self.suffix, png_bytes(ImageFile(self.path, self.frame).read())
        return self.suffix, read_bytes(self.path)
