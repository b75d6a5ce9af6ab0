"""How many images of a dataset each tool sees, in one line per tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from labeler.formats.image_traits import ImageTraits
from labeler.formats.readers import Reader


@dataclass
class Sight:
    """How many images of a dataset a tool sees.

    Attributes:
        unseen: images that it does not see, by cause.
        altered: images that it sees other than they were labeled, by how.
    """

    reader: Reader
    images: int = 0
    unseen: Counter[str] = field(default_factory=Counter)
    altered: Counter[str] = field(default_factory=Counter)

    @property
    def seen(self) -> int:
        return self.images - self.unseen.total()

    def add(self, image: ImageTraits) -> bool:
        """Count an image; returns whether the tool sees it as it was labeled."""
        self.images += 1
        if cause := self.reader.unseen(image):
            self.unseen[cause] += 1
        elif difference := self.reader.altered(image):
            self.altered[difference] += 1
        else:
            return True
        return False

    def line(self) -> str:
        """For the summary, such as ``Ultralytics sees 2 of 3 images (1 .gif)``."""
        causes = ", ".join(f"{count:,} {cause}" for cause, count in self.unseen.most_common())
        line = f"{self.reader.title} sees {self.seen:,} of {self.images:,} images" + (f" ({causes})" if causes else "")
        different = ", ".join(f"{count:,} {how}" for how, count in self.altered.most_common())
        return line + (f"; other than labeled: {different}" if different else "")


def sights(readers: Sequence[Reader], images: Iterable[ImageTraits]) -> list[Sight]:
    """What each of ``readers`` sees."""
    found = [Sight(reader) for reader in readers]
    for image in images:
        for sight in found:
            sight.add(image)
    return found
