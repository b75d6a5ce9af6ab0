"""File names made from image paths and class names, for folders without subfolders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

MAX_BYTES = 120  # per part; file systems allow names of 255 bytes


def safe_part(text: str) -> str:
    """``text`` as a part of a file name: letters and digits of any script, ``.``, ``-`` and single ``_``.

    It is never empty, and does not contain ``__``, so parts can be joined by ``__`` and split again.
    """
    part = re.sub(r"[^\w.-]+|_+", "_", text).encode()[:MAX_BYTES].decode(errors="ignore")
    return re.sub(r"_+", "_", part).strip("_. ") or "unnamed"


class FlatNames:
    """Turns image paths into unique names: ``sub/photo.jpg`` becomes ``sub_photo``.

    A name that is taken gets a number, so the same paths in the same order give the same names. Names that differ only
    in case count as the same, because some file systems ignore case.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, image_id: str) -> str:
        """The name of the next image, without a suffix."""
        part = safe_part(str(PurePosixPath(image_id).with_suffix("")))
        name, count = part, 1
        while name.casefold() in self._taken:
            count += 1
            name = f"{part}_{count}"
        self._taken.add(name.casefold())
        return name
