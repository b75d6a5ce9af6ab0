"""Find the place of every image in the dataset: its file name, its split, and the file itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from labeler.errors import ImageError
from labeler.files.parallel import REQUESTS, in_order
from labeler.files.processes import cores
from labeler.files.storage import storage_of
from labeler.formats.image_traits import ImageTraits
from workflows.dataset.dataset import Dataset
from workflows.dataset.image_forms import ImageForms
from workflows.dataset.image_readers import ImageReaders
from workflows.dataset.images import PlacedImage
from workflows.dataset.judging import JudgedImage
from workflows.dataset.planning import one_file
from workflows.dataset.splitting import Splitting


class ImageAtPlace(NamedTuple):
    """An image with its place in the dataset.

    Attributes:
        placed: None if the image is gone.
        fault: why the image cannot be in the dataset.
        seen: how tools see its file; None if it cannot be read, or there is none.
        converted: why its file is a PNG instead of its own bytes, in a few words; empty if it is not.
    """

    judged: JudgedImage
    file_name: str
    split: str
    placed: PlacedImage | None
    fault: str = ""
    seen: ImageTraits | None = None
    converted: str = ""


def placed(
    images: Iterable[JudgedImage], dataset: Dataset, splitting: Splitting, readers: ImageReaders
) -> Iterator[ImageAtPlace]:
    """Every image with its place, in the order of the records.

    Several are looked at at once where a store is asked, or images are converted.
    """
    forms = ImageForms(dataset, readers)

    def place(named: tuple[JudgedImage, str, int]) -> ImageAtPlace:
        image, file_name, row = named
        record, split = image.record, splitting.split(row)
        try:
            if record.status == "error":
                fault = record.error if dataset.originals.may_hold(record.image_id) else ""
                return ImageAtPlace(image, file_name, split, None, fault)
            with one_file():
                form = forms.form(image, file_name)
                split = dataset.images.split_of(record, form.file_name, split)
            placed = dataset.images.place_image(record, form, split)
            if placed is None:
                return ImageAtPlace(image, form.file_name, split, None)
            name, converted = placed.file_name or form.file_name, form.cause if placed.converted else ""
            seen = forms.seen(image, placed, name)
            return ImageAtPlace(image, name, placed.split or split, placed, seen=seen, converted=converted)
        except ImageError as error:
            return ImageAtPlace(image, file_name, split, None, str(error))

    rows = zip(range(len(splitting)), images, strict=True)
    named = ((image, dataset.names.give(image.record.image_id), row) for row, image in rows)
    is_remote = storage_of(dataset.originals.root).is_remote or storage_of(dataset.destination.path("images")).is_remote
    if is_remote:
        return in_order(place, named, REQUESTS)
    return in_order(place, named, cores()) if readers.convert else map(place, named)
