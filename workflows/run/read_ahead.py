"""Read batches of images in threads, ahead of the models, within a number of bytes.

Within a shard, images of the same size share a batch, since models need one shape per batch. If a shard has killed
earlier processes, its images are read one by one, and only when all earlier work is done.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labeler.errors import ImageError
from labeler.files.image_config import ImageConfig
from labeler.files.images import DecodedImage, ImageFile
from workflows.run.attempts import CRASHES, Attempts
from workflows.run.batch_size import BatchSize
from workflows.run.shard import Shard

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.detectors.detector import Image

BATCHES_AHEAD = 3
BYTES_PER_PIXEL = 7  # while an image is decoded: four of Pillow, three of the result


@dataclass(frozen=True)
class Decoded:
    """The result of reading one image: ``image``, or None and an ``error`` in one line."""

    image_id: str
    image: DecodedImage | None
    error: str
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Images of one shard that are being read, or have been.

    Attributes:
        is_last: it is the last batch of the shard.
        memory: in bytes, at most.
        is_alone: all work on it must be done before the next batch is asked for.
    """

    shard: Shard
    attempts: Attempts
    decoding: Sequence[Future[Decoded]]
    is_last: bool
    memory: int = 0
    is_alone: bool = False


def read_ahead(
    shards: Iterable[Shard | None],
    root: AnyPath,
    batch_size: BatchSize,
    readers: ThreadPoolExecutor,
    reading: ImageConfig,
    prepare: Callable[[Image], None] = lambda image: None,
) -> Iterator[Batch | None]:
    """Batches whose images are being read. None asks the caller to finish all earlier batches before the next one.

    A batch that was yielded may be in memory until the next is asked for, and not longer. It and those ahead of it take
    ``reading.read_ahead`` MB or less, or are one image.

    Args:
        prepare: is called by the reading threads with the pixels of each image.
    """
    most = reading.read_ahead * 10**6
    ahead: deque[Batch] = deque()
    for shard in shards:
        attempts = Attempts(shard.attempts_path) if shard else None
        if attempts is None or attempts.unfinished >= CRASHES:
            yield from ahead
            ahead.clear()
            yield None
        if shard is None or attempts is None:
            continue
        attempts.begin()
        if attempts.unfinished >= CRASHES:
            yield from _one_by_one(shard, attempts, root, readers, reading, prepare)
            continue
        files = {image_id: ImageFile.of(root, image_id, reading) for image_id in shard.image_ids}
        sizes = readers.map(lambda image_id, files=files: _size(files[image_id]), shard.image_ids)
        by_size = sorted(zip(sizes, shard.image_ids, strict=True))
        for image_ids, memory, is_last in _batches(by_size, batch_size, most // 2):
            while ahead and memory + sum(batch.memory for batch in ahead) > most:
                yield ahead.popleft()
            decoding = [readers.submit(_decode, image_id, files[image_id], prepare) for image_id in image_ids]
            ahead.append(Batch(shard, attempts, decoding, is_last, memory))
            if len(ahead) > BATCHES_AHEAD:
                yield ahead.popleft()
    yield from ahead


def _batches(
    by_size: Sequence[tuple[tuple[int, int], str]], batch_size: BatchSize, most: int
) -> Iterator[tuple[list[str], int, bool]]:
    """Image ids of one batch, the memory that they take, ``most`` or less or that of one image, and if it is the last.

    Args:
        by_size: (width, height) and id of each image.
        batch_size: may change from one batch to the next.
    """
    first = 0
    while first < len(by_size):
        ids: list[str] = []
        memory = 0
        for (width, height), image_id in by_size[first:]:
            bytes_now = width * height * BYTES_PER_PIXEL
            if ids and (len(ids) >= batch_size.images or memory + bytes_now > most):
                break
            ids.append(image_id)
            memory += bytes_now
        first += len(ids)
        yield ids, memory, first == len(by_size)


def _one_by_one(
    shard: Shard,
    attempts: Attempts,
    root: AnyPath,
    readers: ThreadPoolExecutor,
    reading: ImageConfig,
    prepare: Callable[[Image], None],
) -> Iterator[Batch]:
    """Batches of one image, each noted before it is read; one that has killed its process repeatedly is not read."""
    for image_id in shard.image_ids:
        with attempts.image(image_id) as killed_its_process:
            if killed_its_process:
                decoding: Future[Decoded] = Future()
                decoding.set_result(Decoded(image_id, None, "crashed the worker", 0.0))
            else:
                decoding = readers.submit(_decode, image_id, ImageFile.of(root, image_id, reading), prepare)
            yield Batch(shard, attempts, [decoding], is_last=image_id == shard.image_ids[-1], is_alone=True)


def _size(file: ImageFile) -> tuple[int, int]:
    try:
        return file.size()
    except ImageError:
        return (0, 0)  # reading it will report why


def _decode(image_id: str, file: ImageFile, prepare: Callable[[Image], None]) -> Decoded:
    started = time.perf_counter()
    try:
        image, error = file.read(), ""
        prepare(image.pixels)
    except ImageError as raised:
        image, error = None, str(raised)
    return Decoded(image_id, image, error, time.perf_counter() - started)
