"""Label a stream of shards: decoding, the models and writing overlap, and memory stays that of a few batches.

Files are read by threads some batches ahead, across the border between shards, so the models never wait for a disk.
Within a shard, images of one size go together, since models batch only what has one shape. A shard that earlier
attempts died of is labeled image by image, with nothing else under way.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import ImageError, LabelerError
from labeler.files.images import DecodedImage, ImageFile
from labeler.files.storage import REQUESTS
from labeler.models.prompters.prompter import ImagePrompts, Prompter
from labeler.records import ImageRecord, Instance, read_records, write_records
from workflows.run.attempts import CRASHES, Attempts
from workflows.run.folder import Shard

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.labelers.labeler import Labeler

BATCHES_AHEAD = 3
DECODE_THREADS = 4
STAGES = ("decode", "wait", "tag", "model", "write")


@dataclass
class ShardReport:
    """Figures of one shard, or of several added up.

    Attributes:
        seconds: per stage; ``decode`` adds up threads, ``wait`` is what the models waited for images.
        splits: batches that failed and were halved.
        untagged: images that the tagger failed on and that were labeled all the same.
        unparsed: answers of a language model that no tag could be read from.
        forward_passes, ungated: of the detector, where a gate stands before it: taken, and what it would take without.
        first_image: when the first image was labeled, in seconds since 1970.
        workers: images of each worker, where an engine has several.
    """

    images: int = 0
    objects: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    splits: int = 0
    untagged: int = 0
    unparsed: int = 0
    forward_passes: int = 0
    ungated: int = 0
    first_image: float = math.inf
    workers: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, other: ShardReport) -> None:
        self.images += other.images
        self.objects += other.objects
        self.failures += other.failures
        self.splits += other.splits
        self.untagged += other.untagged
        self.unparsed += other.unparsed
        self.forward_passes += other.forward_passes
        self.ungated += other.ungated
        self.first_image = min(self.first_image, other.first_image)
        self.workers.update(other.workers)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds


@dataclass(frozen=True)
class Stages:
    """What an image goes through once it is read: who says what to ask of it, and who finds that, if anybody."""

    prompter: Prompter
    labeler: Labeler | None


@dataclass(frozen=True)
class _Decoded:
    image_id: str
    image: DecodedImage | None
    error: str
    seconds: float


@dataclass(frozen=True)
class _Batch:
    shard: Shard
    attempts: Attempts
    decoding: Sequence[Future[_Decoded]]
    is_last: bool


def label_shards(
    shards: Iterable[Shard | None], root: AnyPath, stages: Stages, batch_size: int
) -> Generator[ShardReport, None, None]:
    """Label ``shards`` one after the other, each into its own record file, and report each once its file is there.

    An image that cannot be read, that the labeler raises on, or that killed its process in earlier attempts gives a
    record with the error; the rest go on.

    Args:
        shards: None among them says that there is no other for now: what was begun is finished and reported before
            the next one is asked for.
    """
    threads = DECODE_THREADS if isinstance(root, Path) else REQUESTS
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as writer:
        written: deque[Future[ShardReport]] = deque()
        records: dict[str, ImageRecord] = {}
        report = ShardReport()
        try:
            for batch in _read_ahead(shards, root, batch_size, readers):
                if batch is not None:
                    started = time.perf_counter()
                    decoded = [future.result() for future in batch.decoding]
                    report.seconds["decode"] += sum(image.seconds for image in decoded)
                    report.seconds["wait"] += time.perf_counter() - started
                    for record in _label(decoded, stages, report):
                        records[record.image_id] = record
                    report.first_image = min(report.first_image, time.time())
                    if batch.is_last:
                        in_order = [records.pop(image_id) for image_id in batch.shard.image_ids]
                        written.append(writer.submit(_write, batch.shard, in_order, report, batch.attempts))
                        report = ShardReport()
                while written and (batch is None or written[0].done() or len(written) > 2):
                    yield written.popleft().result()
            while written:
                yield written.popleft().result()
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            raise


def _read_ahead(
    shards: Iterable[Shard | None], root: AnyPath, batch_size: int, readers: ThreadPoolExecutor
) -> Iterator[_Batch | None]:
    """Batches whose images are being read. After None, all that came before it is done with."""
    ahead: deque[_Batch] = deque()
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
            yield from _one_by_one(shard, attempts, root, readers)
            continue
        files = {image_id: ImageFile(root / image_id) for image_id in shard.image_ids}
        batches = _batches(shard, files, batch_size, readers)
        for image_ids in batches:
            decoding = [readers.submit(_decode, image_id, files[image_id]) for image_id in image_ids]
            ahead.append(_Batch(shard, attempts, decoding, is_last=image_ids is batches[-1]))
            if len(ahead) > BATCHES_AHEAD:
                yield ahead.popleft()
    yield from ahead


def _batches(
    shard: Shard, files: dict[str, ImageFile], batch_size: int, readers: ThreadPoolExecutor
) -> list[list[str]]:
    sizes = readers.map(lambda image_id: _size(files[image_id]), shard.image_ids)
    by_size = [image_id for _, image_id in sorted(zip(sizes, shard.image_ids, strict=True))]
    return [by_size[start : start + batch_size] for start in range(0, len(by_size), batch_size)]


def _one_by_one(shard: Shard, attempts: Attempts, root: AnyPath, readers: ThreadPoolExecutor) -> Iterator[_Batch]:
    """Batches of one image, noted before it is touched; what killed its process again and again is not touched."""
    for image_id in shard.image_ids:
        with attempts.image(image_id) as killed_its_process:
            if killed_its_process:
                decoding: Future[_Decoded] = Future()
                decoding.set_result(_Decoded(image_id, None, "crashed the worker", 0.0))
            else:
                decoding = readers.submit(_decode, image_id, ImageFile(root / image_id))
            yield _Batch(shard, attempts, [decoding], is_last=image_id == shard.image_ids[-1])


def _size(file: ImageFile) -> tuple[int, int]:
    try:
        return file.size()
    except ImageError:
        return (0, 0)  # reading it will tell why


def _decode(image_id: str, file: ImageFile) -> _Decoded:
    started = time.perf_counter()
    try:
        image, error = file.read(), ""
    except ImageError as raised:
        image, error = None, str(raised)
    return _Decoded(image_id, image, error, time.perf_counter() - started)


def _label(decoded: Sequence[_Decoded], stages: Stages, report: ShardReport) -> Iterator[ImageRecord]:
    for item in decoded:
        if item.image is None:
            yield ImageRecord(item.image_id, 0, 0, "", status="error", error=item.error)
    readable = [(item.image_id, item.image) for item in decoded if item.image is not None]
    started = time.perf_counter()
    unparsed = stages.prompter.unparsed
    prompts = stages.prompter.prompts_for([image.pixels for _, image in readable])
    report.unparsed += stages.prompter.unparsed - unparsed
    tagged = time.perf_counter()
    report.seconds["tag"] += tagged - started
    images = [_Prompted(*pair, asked) for pair, asked in zip(readable, prompts, strict=True)]
    for asked in prompts:
        report.untagged += bool(asked.note and asked.ontology)
        report.forward_passes += asked.forward_passes
        report.ungated += asked.ungated
    yield from (image.record((), image.prompts.note) for image in images if image.prompts.ontology is None)
    if stages.labeler:
        yield from _label_images([image for image in images if image.prompts.ontology], stages.labeler, report)
    report.seconds["model"] += time.perf_counter() - tagged


@dataclass(frozen=True)
class _Prompted:
    image_id: str
    image: DecodedImage
    prompts: ImagePrompts

    def record(self, instances: Sequence[Instance], error: str = "") -> ImageRecord:
        height, width = self.image.pixels.shape[:2]
        numbered = tuple(replace(each, class_id=self.prompts.class_ids[each.class_id]) for each in instances)
        return ImageRecord(
            self.image_id,
            width,
            height,
            self.image.digest,
            status="error" if error else "ok",
            error=error or self.prompts.note,
            tags=tuple(self.prompts.tags),
            instances=numbered,
        )


def _label_images(images: Sequence[_Prompted], labeler: Labeler, report: ShardReport) -> Iterator[ImageRecord]:
    """Records of ``images``; a batch that raises is halved down to the image that is to blame."""
    if not images:
        return
    labeled: list[list[Instance]] = []
    failure = ""
    try:
        ontologies = [image.prompts.ontology for image in images if image.prompts.ontology]
        labeled = labeler.label([image.image.pixels for image in images], ontologies)
    except LabelerError:
        raise  # wrong settings: no image is to blame
    except Exception as error:
        failure = " ".join(f"labeling failed: {type(error).__name__}: {error}".split())
    # Outside the handler, so that the failed forward's memory is free before the halves are tried.
    if failure and len(images) > 1:
        report.splits += 1
        middle = len(images) // 2
        yield from _label_images(images[:middle], labeler, report)
        yield from _label_images(images[middle:], labeler, report)
        return
    if failure:
        yield images[0].record((), failure)
        return
    for image, instances in zip(images, labeled, strict=True):
        yield image.record(instances)


def _write(shard: Shard, records: list[ImageRecord], report: ShardReport, attempts: Attempts) -> ShardReport:
    started = time.perf_counter()
    write_records(shard.records_path, records)
    attempts.done()
    report.seconds["write"] += time.perf_counter() - started
    _count(records, report)
    return report


def report_of(shard: Shard) -> ShardReport:
    """The report of a shard whose record file is there, as far as that tells."""
    report = ShardReport(first_image=time.time())
    _count(read_records([shard.records_path]), report)
    return report


def _count(records: Iterable[ImageRecord], report: ShardReport) -> None:
    for record in records:
        report.images += 1
        report.objects += len(record.instances)
        if record.status == "error":
            report.failures.append((record.image_id, record.error))
