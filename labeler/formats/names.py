"""File names made of image paths and class names, for folders without subfolders."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

MAX_BYTES = 120  # of a part; file systems take names of 255


def safe_part(text: str) -> str:
    """``text`` as part of a file name: letters, digits, ``.``, ``-`` and single ``_``, of any script; never empty.

    Parts joined by ``__`` can therefore be told apart again.
    """
    part = re.sub(r"[^\w.-]+|_+", "_", text).encode()[:MAX_BYTES].decode(errors="ignore")
    return re.sub(r"_+", "_", part).strip("_. ") or "unnamed"


class FlatNames:
    """Names of images by their paths, each given once: ``sub/photo.jpg`` becomes ``sub_photo``.

    Names differ by more than upper and lower case, since some file systems know no difference. What would be a name
    already given gets a number, so equal paths in equal order give equal names.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def give(self, image_id: str) -> str:
        """The name for an image, without a suffix."""
        part = safe_part(str(PurePosixPath(image_id).with_suffix("")))
        name, count = part, 1
        while name.casefold() in self._taken:
            count += 1
            name = f"{part}_{count}"
        self._taken.add(name.casefold())
        return name
