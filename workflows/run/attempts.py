"""What is being worked on, noted in the run folder, so that a later process knows what an earlier one died of.

    OUT/run/attempts/000012.json    one shard: unfinished attempts of the shard, and of images tried alone

A note is written before the work and goes when that is done. Whether a process crashed or was killed by somebody cannot
be told from its note, so nothing is concluded from one alone: only what was begun ``CRASHES`` times and never finished
is taken to kill its process.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from labeler.files.storage import read_bytes, remove, write_bytes

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

CRASHES = 2


class Attempts:
    """The note of one piece of work, at ``path``.

    Attributes:
        unfinished: how often the work was begun and not finished before.
    """

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        self.unfinished = 0
        self._images: Counter[str] = Counter()
        try:
            content = json.loads(read_bytes(path))
            unfinished, images = int(content["unfinished"]), {str(k): int(v) for k, v in content["images"].items()}
            self.unfinished, self._images = unfinished, Counter(images)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):  # torn, or not ours
            self.unfinished = 1

    def begin(self) -> None:
        """Note that the work begins once more."""
        self._write(self.unfinished + 1)

    @contextmanager
    def image(self, image_id: str) -> Iterator[bool]:
        """Work on one image of a shard that has begun, and on nothing else; yields whether it killed its process."""
        killed = self._images[image_id] >= CRASHES
        if not killed:
            self._images[image_id] += 1
        self._write(self.unfinished + 1)  # the image before this one is not noted any more
        yield killed
        if not killed:
            del self._images[image_id]

    def done(self) -> None:
        """Nothing that follows can be blamed on this work."""
        remove(self._path)

    @property
    def total(self) -> int:
        """Grows with every attempt that dies."""
        return self.unfinished + self._images.total()

    def _write(self, unfinished: int) -> None:
        content = {"unfinished": unfinished, "images": self._images}
        write_bytes(self._path, json.dumps(content, ensure_ascii=False).encode())
