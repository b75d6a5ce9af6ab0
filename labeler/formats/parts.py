"""Files about all images of a split, whole or in parts.

An image belongs to the same part however many other images there are, so an image more changes one part alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def group_of(split: str, image_id: str, parts: int | None) -> str:
    """What the file of an image is named by: its split, or a part of it such as ``train-00003-of-00016``."""
    if parts is None:
        return split
    digest = hashlib.blake2b(image_id.encode(errors="surrogateescape"), digest_size=8).digest()
    return _part(split, int.from_bytes(digest, "big") % parts, parts)


def groups(splits: Iterable[str], parts: int | None) -> list[str]:
    """All groups of some splits."""
    if parts is None:
        return list(splits)
    return [_part(split, part, parts) for split in splits for part in range(parts)]


def _part(split: str, part: int, parts: int) -> str:
    return f"{split}-{part:05d}-of-{parts:05d}"
