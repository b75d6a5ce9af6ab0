"""Checks the content of record files, one batch of rows at a time.

A file may come from anywhere, or be damaged in a way that Parquet does not detect. The code that uses records relies on
image ids that stay inside their folder, on images with pixels, and on masks that fit their image. The checks are
vectorised: a million masks take seconds.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.files.image_ids import check_image_ids
from labeler.geometry.run_lengths import run_lengths
from labeler.sizes import MAX_PIXELS, MAX_SIDE, checked_size, shown

MAX_VALUES = 2**22  # of a column in one row group; what labeler writes has a quarter at most
ROWS_PER_BYTE = 10  # of a whole file; every row of a file of labeler has a name of its own
CHECKED_AT_ONCE = 2**15  # bytes of RLE counts


def read_table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The Parquet file ``data`` as a table.

    Raises:
        ValueError: as ``check_extent``.
        pa.ArrowException, OSError: it is damaged.
    """
    with pq.ParquetFile(io.BytesIO(data)) as file:
        check_extent(file.metadata, len(data))
        return file.read(columns)


def check_extent(footer: pq.FileMetaData, size: int) -> None:
    """Refuse a Parquet file of ``size`` bytes that stands for far more: a few bytes can be billions of equal values.

    Raises:
        ValueError: it has more rows or values than a file of that size can hold.
    """
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    values = max((group.column(i).num_values for group in groups for i in range(group.num_columns)), default=0)
    if values > MAX_VALUES or footer.num_rows > ROWS_PER_BYTE * size:
        raise ValueError(f"it states {footer.num_rows} rows with up to {values} values, which no file of labeler has")


def check_images(rows: pa.RecordBatch | pa.Table) -> None:
    """Check the columns ``image_id``, ``width`` and ``height``, and ``status`` if there is one.

    Raises:
        ValueError: an id leads out of its folder, or a size is impossible. The size 0 x 0 is allowed for images that
            could not be read.
    """
    ids = rows.column("image_id")
    check_image_ids(ids)
    width, height = _sides(rows)
    possible = (width > 0) & (height > 0) & (np.maximum(width, height) <= MAX_SIDE) & (width * height <= MAX_PIXELS)
    unread = (width == 0) & (height == 0)
    if "status" in rows.schema.names:
        unread &= np.asarray(pc.equal(rows.column("status"), "error").fill_null(False))
    for row in np.flatnonzero(~(possible | unread))[:1].tolist():
        try:
            checked_size(int(width[row]), int(height[row]))
        except ValueError as error:
            raise ValueError(f"image {shown(ids[row].as_py(), 200)}: {error}") from None


def _sides(rows: pa.RecordBatch | pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Widths and heights, int64 ``(rows,)`` each; null becomes -1, which is never a valid size."""
    width, height = (pc.fill_null(rows.column(name), -1) for name in ("width", "height"))
    return np.asarray(width).astype(np.int64), np.asarray(height).astype(np.int64)


def check_records(rows: pa.RecordBatch) -> None:
    """Check images (see ``check_images``), and class id, box and mask of every instance.

    Raises:
        ValueError: a class id is negative, a box is not finite, or a mask does not fit its image; the message names the
            image.
    """
    check_images(rows)
    lists = rows.column("instances")
    if lists.null_count:
        raise ValueError("an image has no list of instances")
    per_image = np.asarray(pc.list_value_length(lists)).astype(np.int64)
    instances = lists.flatten()
    if not len(instances):
        return
    if instances.null_count:
        raise ValueError("an instance is empty")
    # struct.field() ignores the offset of a sliced array; flatten() does not.
    columns = dict(zip((field.name for field in instances.type), instances.flatten(), strict=True))
    if empty := [name for name, column in columns.items() if column.null_count]:
        raise ValueError(f"an instance has no {empty[0]}")
    image_of = np.repeat(np.arange(len(per_image)), per_image)

    def refuse(invalid: npt.NDArray[np.bool_], why: str) -> None:
        for index in np.flatnonzero(invalid)[:1].tolist():
            raise ValueError(f"image {shown(rows.column('image_id')[int(image_of[index])].as_py(), 200)}: {why}")

    refuse(np.asarray(columns["class_id"]) < 0, "an instance has a negative class id")
    boxes = np.asarray(columns["box_xyxy"].flatten()).reshape(len(instances), 4)
    refuse(~np.isfinite(boxes).all(axis=1), "an instance has a box that is not finite")
    pixels = np.multiply(*_sides(rows))
    areas = np.asarray(columns["area"])
    refuse((areas < 0) | (areas > pixels[image_of]), "an instance has an impossible area")
    invalid = np.zeros(len(instances), dtype=np.bool_)
    if (index := first_invalid_rle(columns["rle_counts"].to_pylist(), pixels[image_of])) is not None:
        invalid[index] = True
    refuse(invalid, "the RLE counts of an instance do not fit the image")


def first_invalid_rle(counts: Sequence[bytes], pixels: npt.NDArray[np.int64]) -> int | None:
    """The index of the first compressed RLE that is damaged or whose runs do not sum to its pixels; None if all fit.

    Args:
        counts: the RLE counts of n masks.
        pixels: int64 ``(n,)``, width x height of each mask's image.
    """
    ends = np.cumsum([len(each) for each in counts])
    start = 0
    while start < len(counts):
        # Batches that fit the processor's cache are several times as fast.
        stop = max(start + 1, int(np.searchsorted(ends, (ends[start - 1] if start else 0) + CHECKED_AT_ONCE)))
        if not _all_fit(counts[start:stop], pixels[start:stop]):
            for index in range(start, stop):
                if not _all_fit(counts[index : index + 1], pixels[index : index + 1]):
                    return index
        start = stop
    return None


def _all_fit(counts: Sequence[bytes], pixels: npt.NDArray[np.int64]) -> bool:
    try:
        return bool((run_lengths(counts).pixels() == pixels).all())
    except ValueError:
        return False
