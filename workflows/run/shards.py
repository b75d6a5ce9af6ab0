"""Label a stream of shards. Decoding, the models and writing overlap; memory is bounded by a few batches.

Threads read files a few batches ahead (``read_ahead.py``), across shard boundaries, so the models do not wait for the
disk.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from labeler.errors import ImageError, LabelerError
from labeler.files.frames import split_frame
from labeler.files.image_config import ImageConfig
from labeler.files.images import DecodedImage
from labeler.files.parallel import REQUESTS
from labeler.files.storage import storage_of
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.prompters.prompter import ImagePrompts, Prompter
from labeler.record_files import read_records, write_records
from labeler.records import ImageRecord, Instance
from workflows.run.attempts import Attempts
from workflows.run.read_ahead import Decoded, read_ahead
from workflows.run.shard_files import Shard

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.labelers.labeler import Labeler

DECODE_THREADS = 4
_DEFAULT_READING = ImageConfig()
_DEEP_FORMATS = frozenset({".png", ".tif", ".tiff"})  # of those that the dataset has as they are
STAGES = ("decode", "wait", "tag", "model", "write")


@dataclass
class ShardReport:
    """Figures for one shard, or the sums for several.

    Attributes:
        seconds: per stage; ``decode`` is the sum over threads, ``wait`` the time the models waited for images.
        splits: batches that failed and were halved.
        untagged: images that were labeled although the tagger failed on them.
        unparsed: answers of a language model from which no tag could be read.
        forward_passes, ungated: forward passes of a detector behind a tag gate, and how many it would need without one.
        began: when the models got the first images, in seconds since 1970.
        scaled: images of more than 8 bits per channel, by what they were scaled from.
        kept_deep: of these, images whose own files the dataset has, which trainers read otherwise or not at all.
        longest_side: of the largest image that was read, in pixels.
        further_frames, with_frames: pages or frames that were not read, and the number of files that have them.
        first_image: when the first image was labeled, in seconds since 1970.
        workers: images per worker, for an engine with several.
    """

    images: int = 0
    objects: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    splits: int = 0
    untagged: int = 0
    unparsed: int = 0
    forward_passes: int = 0
    ungated: int = 0
    began: float = math.inf
    scaled: Counter[str] = field(default_factory=Counter)
    kept_deep: int = 0
    longest_side: int = 0
    further_frames: int = 0
    with_frames: int = 0
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
        self.began = min(self.began, other.began)
        self.scaled.update(other.scaled)
        self.kept_deep += other.kept_deep
        self.longest_side = max(self.longest_side, other.longest_side)
        self.further_frames += other.further_frames
        self.with_frames += other.with_frames
        self.first_image = min(self.first_image, other.first_image)
        self.workers.update(other.workers)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds


@dataclass(frozen=True)
class Stages:
    """What happens to an image once it is read: ``prompter`` chooses prompts, ``labeler`` (if any) finds instances."""

    prompter: Prompter
    labeler: Labeler | None


def label_shards(
    shards: Iterable[Shard | None],
    root: AnyPath,
    stages: Stages,
    batch_size: int,
    reading: ImageConfig = _DEFAULT_READING,
) -> Generator[ShardReport, None, None]:
    """Label ``shards`` one after another; each report is yielded when the shard's record file has been written.

    An image that cannot be read, on which the labeler fails, or that killed its process in earlier attempts gets a
    record with the error; the other images are not affected.

    Args:
        shards: a None among them means that no shard is available right now, so all started ones are finished and
            reported before the next is requested.
        reading: how images are read; the records depend on ``intensity`` alone.
    """
    threads = REQUESTS if storage_of(root).is_remote else DECODE_THREADS
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as writer:
        written: deque[Future[ShardReport]] = deque()
        records: dict[str, ImageRecord] = {}
        report = ShardReport()
        try:
            for batch in read_ahead(shards, root, batch_size, readers, reading):
                if batch is not None:
                    report.began = min(report.began, time.time())
                    started = time.perf_counter()
                    decoded = [future.result() for future in batch.decoding]
                    report.seconds["decode"] += sum(image.seconds for image in decoded)
                    report.seconds["wait"] += time.perf_counter() - started
                    _note_reading(decoded, report)
                    for record in _label(decoded, stages, report):
                        records[record.image_id] = record
                    del decoded
                    report.first_image = min(report.first_image, time.time())
                    if batch.is_last:
                        in_order = [records.pop(image_id) for image_id in batch.shard.image_ids]
                        written.append(writer.submit(_write, batch.shard, in_order, report, batch.attempts))
                        report = ShardReport()
                while written and (batch is None or written[0].done() or len(written) > 2):
                    yield written.popleft().result()
                del batch  # so that its images are not in memory while the next ones are read
            while written:
                yield written.popleft().result()
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            raise


def _note_reading(decoded: Sequence[Decoded], report: ShardReport) -> None:
    for image_id, image in ((item.image_id, item.image) for item in decoded if item.image is not None):
        report.longest_side = max(report.longest_side, *image.pixels.shape[:2])
        report.scaled.update([image.scaled] if image.scaled else [])
        report.kept_deep += _is_kept_deep(image_id, image)
        report.further_frames += image.further_frames
        report.with_frames += image.further_frames > 0


def _is_kept_deep(image_id: str, image: DecodedImage) -> bool:
    """Whether the dataset has the file of an image that trainers read otherwise than it was labeled.

    They keep the high byte of 16 bits, which is what scaling from all 16 bits gives, too.
    """
    name, frame = split_frame(image_id)
    is_same_file = not frame and PurePosixPath(name).suffix.lower() in _DEEP_FORMATS
    return is_same_file and image.scaled not in ("", "16 bits")


def _label(decoded: Sequence[Decoded], stages: Stages, report: ShardReport) -> Iterator[ImageRecord]:
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
    """The records of ``images``; a batch that fails is halved until the image that causes the failure is alone."""
    if not images:
        return
    labeled: list[list[Instance]] = []
    failure = ""
    try:
        requests = [
            LabelRequest(image.image_id, image.image.pixels, image.prompts.ontology)
            for image in images
            if image.prompts.ontology
        ]
        labeled = labeler.label(requests)
        del requests  # so that no failure keeps the images alive
    except ImageError as error:
        failure = str(error)
    except LabelerError:
        raise  # wrong settings, which no image causes
    except Exception as error:
        failure = " ".join(f"labeling failed: {type(error).__name__}: {error}".split())
    # Outside the handler, so that the memory of the failed forward pass is free before the halves are tried.
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
    """The report for a shard that is already labeled, from its record file."""
    report = ShardReport(began=time.time(), first_image=time.time())
    _count(read_records([shard.records_path]), report)
    return report


def _count(records: Iterable[ImageRecord], report: ShardReport) -> None:
    for record in records:
        report.images += 1
        report.objects += len(record.instances)
        if record.status == "error":
            report.failures.append((record.image_id, record.error))
