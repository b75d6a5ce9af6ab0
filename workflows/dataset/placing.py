"""Find the place of every image in the dataset: its file name, its split, and the file itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labeler.errors import ImageError
from labeler.files.parallel import in_order
from labeler.files.storage import storage_of
from workflows.dataset.dataset import Dataset
from workflows.dataset.images import PlacedImage
from workflows.dataset.judging import JudgedImage
from workflows.dataset.planning import one_file
from workflows.dataset.splitting import Splitting


@dataclass(frozen=True, slots=True)
class ImageAtPlace:
    """An image with its place in the dataset.

    Attributes:
        placed: None if the image is gone.
        fault: why the image cannot be in the dataset.
    """

    judged: JudgedImage
    file_name: str
    split: str
    placed: PlacedImage | None
    fault: str = ""


def placed(images: Iterable[JudgedImage], dataset: Dataset, splitting: Splitting) -> Iterator[ImageAtPlace]:
    """Every image with its place, in the order of the records; several at once where a store is asked."""

    def place(named: tuple[JudgedImage, str, int]) -> ImageAtPlace:
        image, file_name, row = named
        record, split = image.record, splitting.split(row)
        try:
            if record.status == "error":
                fault = record.error if dataset.originals.may_hold(record.image_id) else ""
                return ImageAtPlace(image, file_name, split, None, fault)
            with one_file():
                split = dataset.images.split_of(record, file_name, split)
            placed = dataset.images.place_image(record, file_name, split)
            return ImageAtPlace(image, file_name, (placed and placed.split) or split, placed)
        except ImageError as error:
            return ImageAtPlace(image, file_name, split, None, str(error))

    rows = zip(range(len(splitting)), images, strict=True)
    named = ((image, dataset.names.give(image.record.image_id), row) for row, image in rows)
    is_remote = storage_of(dataset.originals.root).is_remote or storage_of(dataset.destination.path("images")).is_remote
    return in_order(place, named) if is_remote else map(place, named)
