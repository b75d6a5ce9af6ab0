"""Decides which split an image belongs to."""

from __future__ import annotations

import hashlib


def in_validation(image_id: str, share: float, seed: int) -> bool:
    """Whether an image belongs to the validation split, by a hash of its id and the seed.

    The result does not depend on other images, so adding images never moves an image to another split. A larger share
    contains the images of a smaller one.

    Args:
        share: of images that belong to the validation split, in [0, 1].
    """
    digest = hashlib.blake2b(f"{seed}:{image_id}".encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share
