"""The tools that read the formats of a dataset: how they see an image, and whether a conversion to PNG helps them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from labeler.formats.image_traits import ImageTraits, as_png
from labeler.formats.readers import READERS, Reader, helped_by, readers_of
from workflows.dataset.image_formats import voc_image_name

if TYPE_CHECKING:
    from workflows.settings.export import ExportConfig


class ImageReaders:
    """Those of the formats that ``config`` names, each once; none for a dataset without image files.

    Attributes:
        convert: images are to be converted that a tool cannot read as they were labeled.
    """

    def __init__(self, config: ExportConfig) -> None:
        self.convert = config.image_files == "convert"
        self._readers = readers_of(config.formats if config.link != "none" else ())

    def __iter__(self) -> Iterator[Reader]:
        return iter(self._readers)

    def __bool__(self) -> bool:
        return bool(self._readers)

    def shown(self, reader: Reader, image: ImageTraits) -> ImageTraits:
        """The image under the name that the format of ``reader`` gives it."""
        return replace(image, file_name=voc_image_name(image.file_name)) if reader in READERS["voc"] else image

    def helped(self, image: ImageTraits) -> str:
        """Why a tool does not see the image as it was labeled, in a few words; empty if no PNG would help any."""
        if not (troubled := [each for each in self if each.trouble(self.shown(each, image))]):
            return ""
        changed = as_png(image)
        causes = (helped_by(each, self.shown(each, image), self.shown(each, changed)) for each in troubled)
        return next(filter(None, causes), "")
