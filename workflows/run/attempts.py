"""Notes on unfinished work, from which a later process learns what killed an earlier one.

    OUT/run/attempts/000012.json    one shard: its unfinished attempts, and those of images that were tried alone

A note is written before the work starts and deleted when the work is done. A note does not tell whether its process
crashed or was killed by someone, so a single note proves nothing: only work that was started ``CRASHES`` times and
never finished is assumed to kill its process.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from labeler.files.documents import load_json
from labeler.files.storage import remove, write_bytes

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

CRASHES = 2


class Attempts:
    """The note on one piece of work, at ``path``.

    Attributes:
        unfinished: how often the work was started before without being finished.
    """

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        self.unfinished = 0
        self._images: Counter[str] = Counter()
        try:
            content = load_json(path)
            unfinished, images = int(content["unfinished"]), {str(k): int(v) for k, v in content["images"].items()}
            self.unfinished, self._images = unfinished, Counter(images)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):  # torn or foreign
            self.unfinished = 1

    def begin(self) -> None:
        """Note that the work starts once more."""
        self._write(self.unfinished + 1)

    @contextmanager
    def image(self, image_id: str) -> Iterator[bool]:
        """Note work on a single image of a shard; yields whether this image has killed its process before."""
        killed = self._images[image_id] >= CRASHES
        if not killed:
            self._images[image_id] += 1
        self._write(self.unfinished + 1)  # this also drops the note on the previous image
        yield killed
        if not killed:
            del self._images[image_id]

    def done(self) -> None:
        """Delete the note: the work is finished."""
        remove(self._path)

    @property
    def total(self) -> int:
        """The number of unfinished attempts, which grows each time a process dies."""
        return self.unfinished + self._images.total()

    def _write(self, unfinished: int) -> None:
        content = {"unfinished": unfinished, "images": self._images}
        write_bytes(self._path, json.dumps(content, ensure_ascii=False).encode())
