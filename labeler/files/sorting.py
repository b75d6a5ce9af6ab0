"""Sort the images that a search finds, in runs on disk once they are many."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.image_table import IN_MEMORY, ROWS, SCHEMA, ImageTable, writing_batches
from labeler.files.listing import stamps
from labeler.files.storage import storage_of

if TYPE_CHECKING:
    from labeler.files.listing import Found
    from labeler.files.storage import AnyPath


def sorted_images(root: AnyPath, found: Iterable[Found]) -> ImageTable:
    """The images ``found`` below ``root``, sorted by id, with their stamps; local files are asked for them here."""
    table = ImageTable(_with_stamps(root, in_order_of_id(found)))
    pa.default_memory_pool().release_unused()  # sorting takes more than what follows
    return table


def _with_stamps(root: AnyPath, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    if not storage_of(root).is_remote:
        for batch in batches:
            yield _stamped(batch, stamps(root, batch.column(0).to_pylist()))
        return
    for has_stamps, group in groupby(batches, lambda batch: not batch.column(1).null_count):
        if has_stamps:
            yield from group
            continue
        listed = list(group)  # of a text file of paths; asked for at once, since a store lists whole folders
        told = iter(stamps(root, [image_id for batch in listed for image_id in batch.column(0).to_pylist()]))
        yield from (_stamped(batch, islice(told, batch.num_rows)) for batch in listed)


def _stamped(batch: pa.RecordBatch, told: Iterable[str]) -> pa.RecordBatch:
    return pa.record_batch([batch.column(0), pa.array(told, pa.string())], schema=SCHEMA)


def in_order_of_id(found: Iterable[Found]) -> Iterator[pa.RecordBatch]:
    """``found`` without duplicates, sorted by image id as Python sorts text, in batches; unknown stamps are null."""
    found, runs = iter(found), list[tuple[str, str, int]]()  # the first and last id of each batch in the file
    with SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        with writing_batches(file) as writer:
            while images := sorted(dict(islice(found, ROWS)).items()):
                runs.append((images[0][0], images[-1][0], len(runs)))
                ids, told = zip(*images, strict=True)
                writer.write_batch(pa.record_batch([pa.array(ids, pa.string()), pa.array(told, pa.string())], SCHEMA))
        reader = pa.ipc.open_file(pa.PythonFile(file, "r"))
        yield from _united([map(reader.get_batch, lane) for lane in _lanes(runs)])


def _lanes(runs: list[tuple[str, str, int]]) -> list[list[int]]:
    """Sorted runs as few sorted sequences of them: a run follows one that ends before it begins.

    A search visits folder after folder, so most runs follow each other, and hardly anything has to be merged.
    """
    lanes: list[tuple[str, list[int]]] = []
    for first, last, run in sorted(runs):
        free = next((number for number, (end, _) in enumerate(lanes) if end < first), len(lanes))
        before = lanes[free][1] if free < len(lanes) else []
        lanes[free : free + 1] = [(last, [*before, run])]
    return [of_lane for _, of_lane in lanes]


def _united(lanes: Iterable[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Sorted lanes of batches as one, without repeated ids."""
    heads = [(batch, lane) for lane in lanes if (batch := next(lane, None)) is not None]
    while heads:
        cut = min(batch.column(0)[-1].as_py() for batch, _ in heads)  # what follows in any lane is greater
        parts, left = [], []
        for batch, lane in heads:
            count = bisect_right(batch.column(0), cut, key=lambda image_id: image_id.as_py())
            parts += [batch.slice(0, count)] if count else []
            rest = batch.slice(count) if count < batch.num_rows else next(lane, None)
            left += [(rest, lane)] if rest is not None else []
        yield from parts if len(parts) == 1 else _sorted(parts)
        heads = left


def _sorted(parts: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    table = pa.Table.from_batches(parts).sort_by("image_id").combine_chunks()
    ids = table.column(0).combine_chunks()
    is_new = pa.concat_arrays([pa.array([True]), pc.not_equal(ids[1:], ids[:-1])])
    yield from table.filter(is_new).combine_chunks().to_batches(max_chunksize=ROWS)
