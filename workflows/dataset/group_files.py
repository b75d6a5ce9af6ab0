"""The files about many images, such as COCO files and WebDataset, each of a split or of a part of one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labeler.files.conversion import png_bytes
from labeler.files.image_config import ImageConfig
from labeler.files.images import ImageFile
from labeler.files.storage import read_bytes
from labeler.formats import hugging_face, roboflow
from labeler.formats.coco import HEAD, CocoWriter
from labeler.formats.hugging_face import HuggingFaceWriter
from labeler.formats.parts import groups
from labeler.formats.splits import SPLITS
from labeler.formats.voc import voc_image_set
from labeler.formats.webdataset import SampleWriter

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.export import ExportConfig


class GroupImage(NamedTuple):
    """An image for the files about many images.

    Attributes:
        file_name: that of COCO.
        annotations: its ``coco_annotations``.
        image: where its file is.
    """

    image_id: str
    file_name: str
    width: int
    height: int
    annotations: Sequence[str]
    image: SampleImage | None = None


class SampleImage(NamedTuple):
    """An image for WebDataset.

    Attributes:
        path: where it is now.
        suffix: that of its file in a dataset.
        frame: the number of a further frame in the file.
        convert: the file must become a PNG.
        reading: how it was read when it was labeled.
    """

    path: AnyPath
    suffix: str
    frame: int = 0
    convert: bool = False
    reading: ImageConfig = ImageConfig()

    def content(self) -> tuple[str, bytes]:
        """Suffix and content of the file in a sample.

        Raises:
            ImageError: the image can no longer be converted.
            OSError: it can no longer be read.
        """
        if self.convert:
            image = ImageFile(self.path, self.frame, self.reading).read()
            return self.suffix, png_bytes(image, self.reading)
        return self.suffix, read_bytes(self.path)


class Writing(NamedTuple):
    """What writers need to know: the class names by class id, the settings, and how COCO files begin."""

    class_names: Sequence[str]
    config: ExportConfig
    head: str = HEAD


Add = Callable[[GroupImage], None]


class GroupFormat(NamedTuple):
    """A format with files about many images.

    Attributes:
        names: of the files of a group.
        writer: writes one of the files.
        in_parts: each split may be in parts.
        always: train and val have files also without images.
    """

    names: Callable[[str], list[str]]
    writer: Callable[[Path, Writing], AbstractContextManager[Add]]
    in_parts: bool = False
    always: bool = False


@contextmanager
def _coco(path: Path, writing: Writing) -> Iterator[Add]:
    with CocoWriter(path, writing.class_names, writing.config.segmentation, writing.head) as writer:
        yield lambda image: writer.add_made(image.file_name, image.width, image.height, image.annotations)


@contextmanager
def _samples(path: Path, _: Writing) -> Iterator[Add]:
    def add(image: GroupImage) -> None:
        assert image.image is not None
        writer.add(image.image_id, image.width, image.height, image.annotations, *image.image.content())

    with open(path, "wb") as file:
        writer = SampleWriter(file)
        yield add
        writer.close()


@contextmanager
def _metadata(path: Path, writing: Writing) -> Iterator[Add]:
    with HuggingFaceWriter(path, writing.class_names, writing.config.polygons) as writer:
        yield lambda image: writer.add_made(image.file_name, image.width, image.height, image.annotations)


@contextmanager
def _image_set(path: Path, _: Writing) -> Iterator[Add]:
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        yield lambda image: print(voc_image_set([image.file_name]), end="", file=file)


GROUP_FORMATS = {
    "coco": GroupFormat(lambda group: [f"annotations/instances_{group}.json"], _coco, in_parts=True, always=True),
    "webdataset": GroupFormat(lambda group: [f"webdataset/{group}.tar"], _samples, in_parts=True),
    "roboflow": GroupFormat(
        lambda split: [f"roboflow/{roboflow.FOLDERS[split]}/{roboflow.ANNOTATIONS}"], _coco, always=True
    ),
    "voc": GroupFormat(
        lambda split: [f"voc/ImageSets/{task}/{split}.txt" for task in ("Main", "Segmentation")], _image_set
    ),
    "hf": GroupFormat(lambda split: [f"hf/{hugging_face.FOLDERS[split]}/{hugging_face.METADATA}"], _metadata),
}


class GroupFile(NamedTuple):
    """Format and group of a file."""

    format: str
    group: str


def group_files(config: ExportConfig, present: Collection[str] = ()) -> dict[str, GroupFile]:
    """The files about many images of a dataset, by name.

    Args:
        present: splits with images.
    """
    files: dict[str, GroupFile] = {}
    for name in (each for each in config.formats if each in GROUP_FORMATS):
        kind = GROUP_FORMATS[name]
        always = {"train", "val", *(["test"] if config.test_share else [])} if kind.always else set()
        splits = [split for split in SPLITS if split in always or split in present]
        for group in groups(splits, config.dataset_shards if kind.in_parts else None):
            files |= {path: GroupFile(name, group) for path in kind.names(group)}
    return files


class GroupFiles:
    """Writes files about many images, one image at a time.

    Args:
        building: the folder to write them in, under their later names.
    """

    def __init__(self, building: Path, files: Mapping[str, GroupFile], writing: Writing) -> None:
        self._writers: dict[str, list[Add]] = {}
        self._stack = ExitStack()
        self.needs_images = any(file.format == "webdataset" for file in files.values())
        for name, file in files.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            add = self._stack.enter_context(GROUP_FORMATS[file.format].writer(path, writing))
            self._writers.setdefault(file.group, []).append(add)

    def writes(self, some: Collection[str]) -> bool:
        """Whether a file of these groups is written."""
        return any(group in self._writers for group in some)

    def add(self, some: Collection[str], image: GroupImage) -> None:
        """Add an image to the files of these groups.

        Raises:
            ImageError: the image can no longer be converted.
            OSError: it can no longer be read.
        """
        for group in some:
            for add in self._writers.get(group, ()):
                add(image)

    def __enter__(self) -> GroupFiles:
        return self

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        self._stack.__exit__(error, *details)  # type: ignore[arg-type]
