"""How many images of a dataset the tools see that read its formats."""

from __future__ import annotations

from collections.abc import Iterator

from labeler.formats.image_traits import ImageTraits
from labeler.formats.sights import Sight
from workflows.dataset.image_readers import ImageReaders

UNREADABLE = "cannot be read"


class Sightings:
    """Takes one image after the other. Without image files in the dataset, there is nothing to see."""

    def __init__(self, readers: ImageReaders) -> None:
        self._readers = readers
        self._sights = [Sight(reader) for reader in readers]
        self._helped = 0  # images that a conversion would help

    def add(self, image: ImageTraits | None) -> None:
        """Add an image of the dataset; None stands for one that cannot be read."""
        if image is None:
            for sight in self._sights:
                sight.images += 1
                sight.unseen[UNREADABLE] += 1
            return
        as_labeled = [sight.add(self._readers.shown(sight.reader, image)) for sight in self._sights]
        self._helped += not all(as_labeled) and self._readers.helped(image) != ""

    def lines(self) -> Iterator[str]:
        """What to tell of it: tools that see all images as they are on one line, then each of the others."""
        sights = [sight for sight in self._sights if sight.images]
        whole = [sight.reader.title for sight in sights if not sight.unseen and not sight.altered]
        if whole:
            yield f"{', '.join(whole)}: {'each sees' if len(whole) > 1 else 'sees'} all {sights[0].images:,} images"
        yield from (sight.line() for sight in sights if sight.reader.title not in whole)
        if self._helped and not self._readers.convert:
            images = "1 of them" if self._helped == 1 else f"{self._helped:,} of them"
            yield f"--image-files convert puts {images} into the dataset as PNG, just as labeled"

    def seen(self) -> dict[str, int]:
        """How many images each tool sees, by its name."""
        return {sight.reader.title: sight.seen for sight in self._sights if sight.images}
