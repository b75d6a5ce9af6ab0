"""Label a stream of shards. Decoding, the models, masks and writing overlap; memory is bounded by a few batches.

Threads read files a few batches ahead (``read_ahead.py``), across shard boundaries, so the models do not wait for the
disk. One thread waits for the masks of a shard and writes its records, so the models do not wait for these either.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from labeler.files.image_config import ImageConfig
from labeler.files.parallel import REQUESTS
from labeler.files.storage import storage_of
from labeler.record_files import read_records, write_records
from labeler.records import ImageRecord
from workflows.run.attempts import Attempts
from workflows.run.batch_size import BatchSize
from workflows.run.labeling import PendingRecord, Stages, label_batches
from workflows.run.shard import Shard
from workflows.run.shard_report import ShardReport

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

DECODE_THREADS = 4
_DEFAULT_READING = ImageConfig()


def label_shards(
    shards: Iterable[Shard | None],
    root: AnyPath,
    stages: Stages,
    batch_size: int | BatchSize,
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
    size = BatchSize(batch_size) if isinstance(batch_size, int) else batch_size
    threads = REQUESTS if storage_of(root).is_remote else DECODE_THREADS
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(1) as writer:
        written: deque[Future[ShardReport]] = deque()
        records: dict[str, PendingRecord] = {}
        report = ShardReport()
        try:
            for batch in label_batches(shards, root, stages, size, reading, readers):
                if batch is not None:
                    report.add(batch.report)
                    records |= batch.records
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


def _write(shard: Shard, pending: Sequence[PendingRecord], report: ShardReport, attempts: Attempts) -> ShardReport:
    records = [record() for record in pending]
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
