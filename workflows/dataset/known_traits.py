"""Traits of the image files of a dataset, so that their headers need not be read again by every export.

OUT/run/export-cache/000012.traits.json    by image id: the file's digest, and the traits without its name
"""

from __future__ import annotations

import io
import json
import logging
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, get_args

from labeler.files.documents import load_json
from labeler.files.storage import read_bytes, storage_of, write_bytes
from labeler.formats.image_traits import Depth, ImageTraits, read_traits

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


logger = logging.getLogger(__name__)
_HEAD = 2**16  # bytes; most headers are shorter


class KnownTraits:
    """Those of one shard; the file at ``path`` is read when it is first needed. Any number of threads may ask."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        self._changed = False
        self._lock = Lock()

    def of(self, image_id: str, digest: str, file: AnyPath | None, file_name: str) -> ImageTraits | None:
        """The traits of an image called ``file_name``; None if they are not known, and ``file`` cannot be read.

        Args:
            digest: of the content; empty if it is not known.
            file: one with that content, if there is one.
        """
        with self._lock:
            known = self._known.get(image_id)
        if digest and known and known[0] == digest and (traits := _parsed(known, file_name)) is not None:
            return traits
        if file is None:
            return None
        try:
            traits = _read(file, file_name)
        except Exception as error:  # Pillow raises whatever a damaged header leads to
            logger.debug("%s: its header cannot be read: %s", file, error)
            return None
        if digest:
            about = [traits.format, traits.width, traits.height, traits.orientation, traits.depth, traits.has_alpha]
            with self._lock:
                self._known[image_id] = [digest, *about]
                self._changed = True
        return traits

    def keep(self) -> None:
        """Write what was read, for the next export."""
        if self._changed:
            write_bytes(self._path, json.dumps(self._known).encode())
            self._changed = False

    @cached_property
    def _known(self) -> dict[str, list[Any]]:
        try:
            content = load_json(self._path)
            return {image_id: list(about) for image_id, about in content.items()}
        except (FileNotFoundError, ValueError, AttributeError, TypeError):
            return {}


def _read(file: AnyPath, file_name: str) -> ImageTraits:
    """The traits of the image in ``file``; from a store, by one request if the header is at its beginning.

    Raises:
        Exception: whatever Pillow raises, or an ``OSError`` of the store.
    """
    if (storage := storage_of(file)).is_remote:
        head = read_bytes(file, 0, _HEAD)
        try:
            return read_traits(io.BytesIO(head), file_name)
        except Exception:  # the header of a TIFF may be at its end
            if len(head) < _HEAD:
                raise
    with storage.open(file, _HEAD) as opened:
        return read_traits(opened, file_name)


def _parsed(about: list[Any], file_name: str) -> ImageTraits | None:
    """The traits that a file holds; None if somebody wrote something else there."""
    try:
        _, name, width, height, orientation, depth, has_alpha = about
    except ValueError:
        return None
    are_numbers = all(type(number) is int for number in (width, height, orientation))
    if not are_numbers or not isinstance(name, str) or depth not in get_args(Depth) or type(has_alpha) is not bool:
        return None
    return ImageTraits(file_name, name, width, height, orientation, depth, has_alpha)
