"""Detect images that changed since they were labeled, by size and times or by content.

A file with the saved size, mtime and ctime counts as unchanged. A file with a different stamp is read, and its digest
decides. The system updates the ctime whenever a file's content, name, owner, permissions or number of hard links
changes, and programs cannot reset it. The hard links of the dataset change the ctime too, so the stamps are saved again
after these are made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.image_table import ImageTable, Positions
from labeler.files.images import image_digest
from labeler.files.listing import stamps
from labeler.files.parallel import in_order
from labeler.files.paths import NO_TIME, OF_CONTENT
from labeler.files.storage import storage_of
from workflows.run.current_records import CurrentRecords
from workflows.run.folder import RunFolder
from workflows.run.planning import Changes

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

_LOCAL_STAMP = r"^(?P<rest>\d+--?\d+)-(?P<ctime>-?\d+)$"  # size-mtime-ctime; earlier versions wrote no ctime


def changed_images(run: RunFolder, root: AnyPath, images: ImageTable, verify: bool) -> Changes:
    """Which of the ``images`` below ``root`` have another content than what was labeled.

    An image that could not be read when it was labeled has no digest, so it counts as changed once its stamp differs.

    Args:
        verify: read every file whose stamp is not a checksum, instead of only those whose stamp differs.
    """
    run.refuse_records_alone()
    current, changes = run.current(), Changes.none(images)
    for known in current.known():
        positions, now = images.look_up(known.column("image_id"))
        is_there = pc.fill_null(pc.not_equal(now, ""), False)
        before = known.column("stamp")
        differs = pc.invert(pc.or_(pc.equal(now, before), pc.equal(_without_ctime(now), before)))
        says_little = pc.invert(pc.starts_with(now, OF_CONTENT)) if verify else pc.ends_with(now, NO_TIME)
        unsure = pc.and_(is_there, pc.or_(differs, says_little))
        asked = np.asarray(pc.fill_null(pc.or_(pc.equal(now, ""), unsure), False))
        if asked.any():
            mask = pa.array(asked)
            columns = [known.filter(mask), is_there.filter(mask), differs.filter(mask)]
            _compare(current, root, changes, positions[asked], *columns)
    return changes


def _compare(
    current: CurrentRecords,
    root: AnyPath,
    changes: Changes,
    positions: Positions,
    known: pa.RecordBatch,
    is_there: pa.BooleanArray,
    differs: pa.BooleanArray,
) -> None:
    """Note in ``changes`` what became of labeled images whose stamp does not settle it.

    Args:
        positions: of the images in the input.
        known: what ``CurrentRecords.known`` tells of them.
        is_there, differs: whether the file is there, with another stamp.
    """
    digests = np.array(current.digests(known), object)
    was_read, there, other = digests != "", np.asarray(is_there), np.asarray(differs)
    changes.missing[positions[~there & was_read]] = True
    changes.changed[positions[there & other & ~was_read]] = True
    unsure = np.flatnonzero(there & was_read)
    ids = known.column("image_id").take(pa.array(unsure)).to_pylist()
    for row, digest in zip(unsure, in_order(lambda image_id: image_digest(root, image_id), ids), strict=True):
        changes.unread[positions[row]] = not digest
        changes.changed[positions[row]] |= digest not in ("", digests[row])


def _without_ctime(stamps: pa.StringArray) -> pa.StringArray:
    return pc.replace_substring_regex(stamps, _LOCAL_STAMP, r"\1")


@contextmanager
def own_links_noted(run: RunFolder, root: AnyPath) -> Iterator[None]:
    """Save new stamps for the images below ``root`` whose ctime alone was changed by the block.

    The block may add, rename and remove hard links to these images. A stamp is saved only if it was up to date before
    the block, and if the new ctime lies within the time the block took, by the clock of the output's file system. So an
    edit is missed only if it is made during the block, keeps the size and resets the mtime.
    """
    if not (storage_of(root).has_links and storage_of(run.output).has_links):
        yield
        return
    saved = ImageTable(filter(len, (_as_saved(batch, root) for batch in run.current_images())))
    began = _time_of(run.path)
    yield
    ended = _time_of(run.path)
    linked = ImageTable(filter(len, (_linked(batch, root, began, ended) for batch in saved.batches())))
    if len(linked):
        run.restamp(linked)


def _as_saved(images: pa.RecordBatch, root: AnyPath) -> pa.RecordBatch:
    """Those of ``images`` whose stamp is up to date."""
    return images.filter(pc.equal(images.column(1), _stamps_now(images, root)))


def _linked(saved: pa.RecordBatch, root: AnyPath, began: int, ended: int) -> pa.RecordBatch:
    """Those of ``saved`` whose ctime alone has changed, between ``began`` and ``ended``, with their new stamps."""
    now = _stamps_now(saved, root)
    same_but_ctime = pc.equal(_without_ctime(now), _without_ctime(saved.column(1)))
    ctimes = pc.struct_field(pc.extract_regex(now, _LOCAL_STAMP), "ctime")
    ctimes = pc.cast(pc.if_else(same_but_ctime, ctimes, None), pa.int64())
    meanwhile = pc.and_(pc.greater_equal(ctimes, began), pc.less_equal(ctimes, ended))
    linked = pc.fill_null(pc.and_(meanwhile, pc.not_equal(now, saved.column(1))), False)
    return pa.record_batch([saved.column(0), now], schema=saved.schema).filter(linked)


def _stamps_now(images: pa.RecordBatch, root: AnyPath) -> pa.StringArray:
    return pa.array(stamps(root, images.column(0).to_pylist()), pa.string())


def _time_of(folder: AnyPath) -> int:
    """The time in nanoseconds since 1970, by the clock of the file system of ``folder``, which may be a server's."""
    with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".", suffix=".partial") as probe:
        return Path(probe.name).stat().st_ctime_ns
