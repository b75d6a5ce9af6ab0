"""From images to records: batches are read ahead, go through the models, and become records.

While masks of a batch are still encoded, by threads of the labeler, the models work on the next batch. So a record is
handed on as a function that waits for its masks. Nothing here writes or needs Parquet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from labeler.errors import ImageError, LabelerError
from labeler.files.frames import split_frame
from labeler.files.image_config import ImageConfig
from labeler.files.images import DecodedImage
from labeler.models.compiling import GAINS
from labeler.models.labelers.labeler import LabelRequest, PendingInstances, begin, preparation
from labeler.models.prompters.prompter import ImagePrompts, Prompter
from labeler.records import ImageRecord, Instance
from workflows.run.attempts import Attempts
from workflows.run.batch_size import BatchSize
from workflows.run.read_ahead import Batch, Decoded, read_ahead
from workflows.run.shard import Shard
from workflows.run.shard_report import ShardReport

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from labeler.models.labelers.labeler import Labeler

_DEEP_FORMATS = frozenset({".png", ".tif", ".tiff"})  # of those that the dataset has as they are
PendingRecord = Callable[[], ImageRecord]  # waits for the masks of the image


@dataclass(frozen=True)
class Stages:
    """What happens to an image once it is read: ``prompter`` chooses prompts, ``labeler`` (if any) finds instances."""

    prompter: Prompter
    labeler: Labeler | None


@dataclass(frozen=True)
class LabeledBatch:
    """Images of one shard that the models are done with.

    Attributes:
        records: by image id.
        is_last: it is the last batch of the shard.
        report: figures of this batch, without what is counted in finished records.
    """

    shard: Shard
    attempts: Attempts
    records: dict[str, PendingRecord]
    is_last: bool
    report: ShardReport


def label_batches(
    shards: Iterable[Shard | None],
    root: AnyPath,
    stages: Stages,
    size: BatchSize,
    reading: ImageConfig,
    readers: ThreadPoolExecutor,
) -> Iterator[LabeledBatch | None]:
    """Label ``shards`` batch by batch. None asks the caller to finish all earlier shards before the next batch.

    An image that cannot be read, on which the labeler fails, or that killed its process in earlier attempts gets a
    record with the error; the other images are not affected.
    """
    for batch in read_ahead(shards, root, size, readers, reading, preparation(stages.labeler)):
        labeled = _label_batch(batch, stages, size) if batch is not None else None
        del batch  # so that its images are not in memory while the next ones are read
        yield labeled


def _label_batch(batch: Batch, stages: Stages, size: BatchSize) -> LabeledBatch:
    report = ShardReport(began=time.time())
    started = time.perf_counter()
    decoded = [future.result() for future in batch.decoding]
    report.seconds["decode"] += sum(image.seconds for image in decoded)
    report.seconds["wait"] += time.perf_counter() - started
    _note_reading(decoded, report)
    records = _label(decoded, stages, size, report)
    if batch.is_alone:
        records = {image_id: _finished(record()) for image_id, record in records.items()}
    report.first_image = time.time()
    report.largest_batch = size.largest
    report.compiled = dict(GAINS)
    return LabeledBatch(batch.shard, batch.attempts, records, batch.is_last, report)


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


def _label(
    decoded: Sequence[Decoded], stages: Stages, size: BatchSize, report: ShardReport
) -> dict[str, PendingRecord]:
    readable = [(item.image_id, item.image) for item in decoded if item.image is not None]
    started = time.perf_counter()
    unparsed = stages.prompter.unparsed
    prompts = stages.prompter.prompts_for([image.pixels for _, image in readable])
    report.unparsed += stages.prompter.unparsed - unparsed
    tagged = time.perf_counter()
    report.seconds["tag"] += tagged - started
    images = [_Prompted(*pair, each) for pair, each in zip(readable, prompts, strict=True)]
    for each in prompts:
        report.untagged += bool(each.note and each.ontology)
        report.forward_passes += each.forward_passes
        report.ungated += each.ungated
    records = {
        item.image_id: _finished(ImageRecord(item.image_id, 0, 0, "", status="error", error=item.error))
        for item in decoded
        if item.image is None
    }
    for image in images:
        if image.prompts.ontology is None:
            records[image.image_id] = _finished(image.head.record((), image.prompts.note))
    if stages.labeler:
        asked = [image for image in images if image.prompts.ontology]
        while asked:  # in parts, if the size has shrunk since the batch was formed
            part, asked = asked[: size.images], asked[size.images :]
            records |= _label_images(part, stages.labeler, size, report)[0]
    report.seconds["model"] += time.perf_counter() - tagged
    return records


@dataclass(frozen=True)
class _Head:
    """A record without its instances, and without the pixels of the image."""

    image_id: str
    width: int
    height: int
    digest: str
    prompts: ImagePrompts

    def record(self, instances: Sequence[Instance], error: str = "") -> ImageRecord:
        numbered = tuple(replace(each, class_id=self.prompts.class_ids[each.class_id]) for each in instances)
        return ImageRecord(
            self.image_id,
            self.width,
            self.height,
            self.digest,
            status="error" if error else "ok",
            error=error or self.prompts.note,
            tags=tuple(self.prompts.tags),
            instances=numbered,
        )

    def pending(self, instances: PendingInstances) -> PendingRecord:
        def record() -> ImageRecord:
            try:
                return self.record(instances())
            except LabelerError as error:
                if not isinstance(error, ImageError):
                    raise
                return self.record((), str(error))
            except Exception as error:
                return self.record((), _failure(error))

        return record


@dataclass(frozen=True)
class _Prompted:
    image_id: str
    image: DecodedImage
    prompts: ImagePrompts

    @property
    def head(self) -> _Head:
        height, width = self.image.pixels.shape[:2]
        return _Head(self.image_id, width, height, self.image.digest, self.prompts)


def _label_images(
    images: Sequence[_Prompted], labeler: Labeler, size: BatchSize, report: ShardReport
) -> tuple[dict[str, PendingRecord], int]:
    """The records of ``images``, and how many of these failed.

    A batch that fails is halved until the image that causes the failure is alone.
    """
    begun: list[PendingInstances] = []
    failure = ""
    try:
        requests = [
            LabelRequest(image.image_id, image.image.pixels, image.prompts.ontology)
            for image in images
            if image.prompts.ontology
        ]
        begun = begin(labeler, requests)
        del requests  # so that no failure keeps the images alive
    except ImageError as error:
        failure = str(error)
    except LabelerError:
        raise  # wrong settings, which no image causes
    except Exception as error:
        failure = _failure(error)
    # Outside the handler, so that the memory of the failed forward pass is free before the halves are tried.
    if failure and len(images) > 1:
        report.splits += 1
        middle = len(images) // 2
        first, failed = _label_images(images[:middle], labeler, size, report)
        second, more_failed = _label_images(images[middle:], labeler, size, report)
        if not failed + more_failed:
            size.exceeded(len(images))
        return first | second, failed + more_failed
    if failure:
        return {images[0].image_id: _finished(images[0].head.record((), failure))}, 1
    size.fitted(len(images))
    return {image.image_id: image.head.pending(instances) for image, instances in zip(images, begun, strict=True)}, 0


def _failure(error: Exception) -> str:
    return " ".join(f"labeling failed: {type(error).__name__}: {error}".split())


def _finished(record: ImageRecord) -> PendingRecord:
    return lambda: record
