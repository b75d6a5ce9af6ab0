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

OF_EARLIER = "of an earlier export"  # why an image is a PNG whose original is gone


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
        traits = image.traits.of(record.image_id, record.digest, file, file_name)
        return self._readers.helped(traits) if traits else ""

    def _as_labeled(self, record: ImageRecord, file_name: str) -> AnyPath:
        """Where to look at the bytes that were labeled: in the input, or if that must not be asked, in the dataset."""
        originals, ledger = self._dataset.originals, self._dataset.ledger
        names = [f"images/{split}/{file_name}" for split in SPLITS if not originals.may_be_asked]
        rows = ((name, ledger.row(name)) for name in names)
        there = (name for name, row in rows if row is not None and ledger.at(row).digest == record.digest)
        name = next(there, names[0] if names else "")
        return self._dataset.destination.path(name) if name else originals.root / record.image_id

    def seen(self, image: JudgedImage, placed: PlacedImage, file_name: str) -> ImageTraits | None:
        """How the tools see an image of the dataset; None if its file cannot be read, or there is nothing to see."""
        if not self._readers or placed.plan is None:
            return None
        record = image.record
        if placed.converted and not placed.plan.edited:
            return ImageTraits(file_name, "PNG", record.width, record.height)
        digest = "" if placed.plan.edited else record.digest
        made = self._dataset.destination.building / placed.plan.name  # where an image of a store was downloaded to
        file = made if storage_of(placed.path).is_remote and made.is_file() else placed.path
        return image.traits.of(record.image_id, digest, file, file_name)
