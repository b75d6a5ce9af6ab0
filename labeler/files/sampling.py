"""A sample of the images of an input that stays nearly the same when images are added."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from labeler.files.image_table import ImageTable


def sampled(images: ImageTable, count: int | None) -> ImageTable:
    """``count`` of the images, those of the smallest digests: with more images around, most stay chosen."""
    if count is None or count >= len(images):
        return images
    digests = np.empty(len(images), np.uint64)
    start = 0
    for batch in images.batches():
        digests[start : start + batch.num_rows] = _digests(batch.column(0).to_pylist())
        start += batch.num_rows
    last = np.partition(digests, count - 1)[count - 1] if count else np.uint64(0)
    mask = digests < last
    mask[np.flatnonzero(digests == last)[: count - int(mask.sum())]] = True
    return ImageTable(batch for _, batch in images.chosen(mask))


def _digests(image_ids: list[str]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(image_id.encode(), digest_size=8).digest() for image_id in image_ids)
    return np.frombuffer(digests, ">u8").astype(np.uint64)
