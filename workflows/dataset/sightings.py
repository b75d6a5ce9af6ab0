"""How many images of a dataset the tools see that read its formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property

from labeler.formats.image_traits import ImageTraits
from labeler.formats.readers import Kind, kind_of
from labeler.formats.sights import Sight
from workflows.dataset.image_readers import ImageReaders

UNREADABLE = "cannot be read"


class Sightings:
    """Takes one image after the other, and then tells. Without image files in the dataset, there is nothing to see."""

    def __init__(self, readers: ImageReaders) -> None:
        self._readers = readers
        self._counts = Counter[Kind]()
        self._examples: dict[Kind, ImageTraits] = {}
        self._unreadable = 0

    def add(self, image: ImageTraits | None) -> None:
        """Add an image of the dataset; None stands for one that cannot be read."""
        if image is None:
            self._unreadable += 1
            return
        kind = kind_of(image)
        self._counts[kind] += 1
        self._examples.setdefault(kind, image)

    def lines(self) -> Iterator[str]:
        """What to tell of it: tools that see all images as they are on one line, then each of the others."""
        sights = [sight for sight in self._sights if sight.images]
        whole = [sight.reader.title for sight in sights if not sight.unseen and not sight.altered]
        if whole:
            yield f"{', '.join(whole)}: {'each sees' if len(whole) > 1 else 'sees'} all {sights[0].images:,} images"
        yield from (sight.line() for sight in sights if sight.reader.title not in whole)
        if (helped := self._helped) and not self._readers.convert:
            images = "1 of them" if helped == 1 else f"{helped:,} of them"
            yield f"--image-files convert puts {images} into the dataset as PNG, just as labeled"

    def seen(self) -> dict[str, int]:
        """How many images each tool sees, by its name."""
        return {sight.reader.title: sight.seen for sight in self._sights if sight.images}

    @cached_property
    def _sights(self) -> list[Sight]:
        sights = [Sight(reader) for reader in self._readers]
        for sight in sights:
            for kind, image in self._examples.items():
                sight.add(self._readers.shown(sight.reader, image), self._counts[kind])
            if self._unreadable:
                sight.images += self._unreadable
                sight.unseen[UNREADABLE] = self._unreadable
        return sights

    @property
    def _helped(self) -> int:
        """How many images a conversion to PNG would help."""
        return sum(self._counts[kind] for kind, image in self._examples.items() if self._readers.helped(image))
