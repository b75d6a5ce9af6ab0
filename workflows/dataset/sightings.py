"""How many images of a dataset the tools see that read its formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from labeler.formats.image_traits import ImageTraits
from labeler.formats.readers import READERS, Reader
from labeler.formats.sights import Sight
from workflows.dataset.file_names import is_converted
from workflows.dataset.image_formats import voc_image_name
from workflows.dataset.images import PlacedImage
from workflows.dataset.known_traits import KnownTraits

if TYPE_CHECKING:
    from labeler.records import ImageRecord
    from workflows.settings.export import ExportConfig

UNREADABLE = "cannot be read"


class Sightings:
    """Looks at one image after the other. Without image files in the dataset, there is nothing to see.

    Args:
        looks: read the headers of files. If not, as where they are in a store, the images are only counted.
    """

    def __init__(self, config: ExportConfig, looks: bool) -> None:
        self._looks = looks
        formats = config.formats if config.link != "none" else ()
        self._sights: dict[Reader, Sight] = {}
        self._voc = set[Reader]()
        for name in formats:
            for reader in READERS.get(name, ()):
                self._sights.setdefault(reader, Sight(reader))
                self._voc.update([reader] if name == "voc" else [])
        self._unread = 0

    def add(self, record: ImageRecord, placed: PlacedImage, file_name: str, known: KnownTraits) -> None:
        """Look at an image of the dataset."""
        if not self._sights or placed.plan is None:
            return
        if not self._looks:
            self._unread += 1
            return
        traits: ImageTraits | None
        if is_converted(record.image_id) and not placed.plan.edited:
            traits = ImageTraits(file_name, "PNG", record.width, record.height)
        else:
            digest = "" if placed.plan.edited else record.digest
            traits = known.of(record.image_id, digest, placed.path, file_name)
        for reader, sight in self._sights.items():
            if traits is None:
                sight.images += 1
                sight.unseen[UNREADABLE] += 1
            else:
                is_voc = reader in self._voc
                sight.add(replace(traits, file_name=voc_image_name(file_name)) if is_voc else traits)

    def lines(self) -> Iterator[str]:
        """What to tell of it: tools that see all images as they are on one line, then each of the others."""
        sights = [sight for sight in self._sights.values() if sight.images]
        whole = [sight.reader.title for sight in sights if not sight.unseen and not sight.altered]
        if whole:
            yield f"{', '.join(whole)}: {'each sees' if len(whole) > 1 else 'sees'} all {sights[0].images:,} images"
        yield from (sight.line() for sight in sights if sight.reader.title not in whole)
        if self._unread:
            yield f"which tools see the {self._unread:,} images was not looked at, since they are in a store"

    def seen(self) -> dict[str, int]:
        """How many images each tool sees, by its name."""
        return {sight.reader.title: sight.seen for sight in self._sights.values() if sight.images}
