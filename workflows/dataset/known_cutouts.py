"""Digests of the cut-outs that were made of a shard's images, so that they need not be made again to be compared.

OUT/run/export-cache/000012-DIGEST.cutouts.json    by image id and end of the name
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING

from labeler.files.documents import load_json
from labeler.files.storage import write_bytes

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


class KnownCutouts:
    """Those of one shard; the file at ``path`` is read when it is first needed."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        self._changed = False

    def of(self, image_id: str) -> dict[str, str] | None:
        """The digests by end of the name; None if they are not known."""
        return self._known.get(image_id)

    def add(self, image_id: str, digests: dict[str, str]) -> None:
        self._changed |= self._known.get(image_id) != digests
        self._known[image_id] = digests

    def keep(self) -> None:
        """Write what was added, for the next export."""
        if self._changed:
            write_bytes(self._path, json.dumps(self._known).encode())
            self._changed = False

    @cached_property
    def _known(self) -> dict[str, dict[str, str]]:
        try:
            content = load_json(self._path)
            return {image_id: {end: str(digest) for end, digest in of.items()} for image_id, of in content.items()}
        except (FileNotFoundError, ValueError, AttributeError):
            return {}
