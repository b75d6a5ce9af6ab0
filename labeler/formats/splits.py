"""Which split an image belongs to."""

from __future__ import annotations

import hashlib


def in_validation(image_id: str, share: float, seed: int) -> bool:
    """Whether an image is one of the ``share`` for validation, by a hash of its id and the seed.

    No other image has a say, so adding images never moves an old one; a larger share keeps all that a smaller one has.
    """
    digest = hashlib.blake2b(f"{seed}:{image_id}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share
