"""Decide of each image whether the dataset has its own bytes or a PNG, and look at how the tools see it there."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from labeler.files.frames import file_of
from labeler.files.storage import storage_of
from labeler.formats.image_traits import ImageTraits
from labeler.formats.splits import SPLITS
from workflows.dataset.dataset import Dataset
from workflows.dataset.file_names import ImageForm, converted_name, is_converted
from workflows.dataset.image_readers import ImageReaders
from workflows.dataset.images import PlacedImage
from workflows.dataset.judging import JudgedImage

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.records import ImageRecord

OF_EARLIER = "of an earlier export"  # why an image is a PNG whose original is gone or must not be asked for


class ImageForms:
    """Looks at one image at a time; several at once may be looked at.

    Args:
        readers: those that read the formats of the dataset.
    """

    def __init__(self, dataset: Dataset, readers: ImageReaders) -> None:
        self._dataset, self._readers = dataset, readers

    def form(self, image: JudgedImage, file_name: str) -> ImageForm:
        """The form that an image takes: what the settings say, unless the user edited or moved the file of the other.

        Args:
            file_name: the name that holds if it is not converted.
        """
        record = image.record
        if is_converted(record.image_id):
            suffix = PurePosixPath(file_of(record.image_id)).suffix.lower()
            return ImageForm(file_name, file_name, convert=True, cause=suffix or "without an extension")
        png, cause = converted_name(file_name), self._why_convert(image, file_name)
        own, changed = ImageForm(file_name, png), ImageForm(png, file_name, convert=True, cause=cause or OF_EARLIER)
        wanted, other = (changed, own) if cause else (own, changed)
        may_be_there = png != file_name and (cause or record.image_id in self._dataset.converted)
        return other if may_be_there and self._dataset.images.is_the_users(record, other.file_name) else wanted

    def _why_convert(self, image: JudgedImage, file_name: str) -> str:
        if not self._readers.convert:
            return ""
        record, file = image.record, self._as_labeled(image.record, file_name)
        if (traits := image.traits.of(record.image_id, record.digest, file, file_name)) is not None:
            return self._readers.helped(traits)
        return OF_EARLIER if self._dataset.images.has_converted(record, converted_name(file_name)) else ""

    def _as_labeled(self, record: ImageRecord, file_name: str) -> AnyPath | None:
        """A file with the bytes that were labeled: of the input, or if that must not be asked, of the dataset."""
        if self._dataset.originals.may_be_asked:
            return self._dataset.originals.root / record.image_id
        for name in (f"images/{split}/{file_name}" for split in SPLITS):
            there = self._dataset.files.look(name)
            if there.is_ours and there.digest == record.digest:
                return self._dataset.destination.path(name)
        return None

    def seen(self, image: JudgedImage, placed: PlacedImage, file_name: str) -> ImageTraits | None:
        """How the tools see an image of the dataset; None if its file cannot be read, or there is nothing to see."""
        if not self._readers or placed.plan is None:
            return None
        record = image.record
        if placed.converted and not placed.plan.edited:
            return ImageTraits(file_name, "PNG", record.width, record.height)
        digest = "" if placed.plan.edited else record.digest
        file = placed.path
        if storage_of(file).is_remote:
            made = self._dataset.destination.building / placed.plan.name  # where the image may have been downloaded to
            file = made if made.is_file() else file
        return image.traits.of(record.image_id, digest, file, file_name)
