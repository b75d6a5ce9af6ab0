"""How many images of a dataset each tool sees, in one line per tool."""

from __future__ import annotations

from collections import Counter
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

    def add(self, image: ImageTraits, count: int = 1) -> None:
        """Count so many images of one kind."""
        self.images += count
        if cause := self.reader.unseen(image):
            self.unseen[cause] += count
        elif difference := self.reader.altered(image):
            self.altered[difference] += count

    def line(self) -> str:
        """For the summary, such as ``Ultralytics sees 2 of 3 images (1 .gif)``."""
        causes = ", ".join(f"{count:,} {cause}" for cause, count in self.unseen.most_common())
        line = f"{self.reader.title} sees {self.seen:,} of {self.images:,} images" + (f" ({causes})" if causes else "")
        different = ", ".join(f"{count:,} {how}" for how, count in self.altered.most_common())
        return line + (f"; other than labeled: {different}" if different else "")
