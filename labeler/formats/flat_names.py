"""File names for images of all folders in one folder: ``sub/photo.jpg`` becomes ``sub_photo.jpg``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from labeler.files.frames import split_frame
from labeler.files.storage import NAME_BYTES

LONGEST_SUFFIX = 16  # bytes kept free for the suffix of the image and of files that are named after it
DIGITS = 8  # of the hash of an image id
_NOT_IN_NAMES = re.compile(r"[/\\\x00-\x1f\x7f]+")


class FlatFileNames:
    """Gives every image a name of its own in a folder without subfolders. An image keeps its name.

    No two images have the same stem, since label, mask and XML files are named by it; nor stems that differ in case
    only, since some file systems ignore case. Of images that would have the same name, the first one gets it, and the
    others get a name with a hash of their id. So a name never depends on how many images came before.

    Args:
        given: names of earlier exports by image id; they are kept.
    """

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self._given = dict(given or {})
        self._taken = {_key(name) for name in self._given.values()}

    def give(self, image_id: str, suffix: str) -> str:
        """The name of an image, with ``suffix`` such as ``.jpg``. Asked again, the answer is the same."""
        if image_id not in self._given:
            self._given[image_id] = self._free(flat_stem(image_id), image_id, suffix)
            self._taken.add(_key(self._given[image_id]))
        return self._given[image_id]

    def _free(self, stem: str, image_id: str, suffix: str) -> str:
        if _key(stem + suffix) not in self._taken:
            return stem + suffix
        digits, length = hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).hexdigest(), DIGITS
        while True:
            name = f"{_cut(stem, NAME_BYTES - LONGEST_SUFFIX - length - 1)}_{digits[:length]}{suffix}"
            if _key(name) not in self._taken:
                return name
            length += 1  # another image is called like this


def flat_stem(image_id: str) -> str:
    """The name for an image without its suffix: its path, with ``_`` between the folders.

    Dots in front are left out, because some readers skip hidden files. A further frame has its number at the end.
    """
    file, frame = split_frame(image_id)
    path = PurePosixPath(file)
    stem = _NOT_IN_NAMES.sub("_", str(path.with_name(path.stem) if path.name else path)).lstrip(". ").rstrip()
    number = f"_{frame:04d}" if frame else ""
    return (_cut(stem, NAME_BYTES - LONGEST_SUFFIX - len(number)) or "image") + number


def _key(name: str) -> str:
    return PurePosixPath(name).stem.casefold()


def _cut(text: str, most: int) -> str:
    """``text``, cut to at most this many bytes of UTF-8."""
    return text.encode("utf-8", "surrogateescape")[:most].decode("utf-8", "ignore").rstrip()
