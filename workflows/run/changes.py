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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.images import image_digest
from labeler.files.listing import stamps as stamps_of
from labeler.files.parallel import in_order
from labeler.files.paths import NO_TIME, OF_CONTENT
from labeler.files.storage import storage_of
from workflows.run.folder import RunFolder

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

_LOCAL_STAMP = r"^(?P<rest>\d+--?\d+)-(?P<ctime>-?\d+)$"  # size-mtime-ctime; earlier versions wrote no ctime


@dataclass(frozen=True)
class Changes:
    """The result of ``changed_images``.

    Attributes:
        images: ids of the images whose content changed.
        stamps: the stamps to save. A labeled image that is missing now keeps its old stamp. A file that could not be
            read gets an empty stamp, so the next run checks it again.
    """

    images: list[str]
    stamps: pa.Array


def changed_images(run: RunFolder, root: AnyPath, image_ids: pa.Array, stamps: pa.Array, verify: bool) -> Changes:
    """The images below ``root`` whose content differs from the labeled content.

    An image that could not be read when it was labeled has no digest, so it counts as changed once its stamp differs.

    Args:
        image_ids, stamps: of the input, from ``labeler.files.listing``.
        verify: read every file whose stamp is not a checksum, instead of only those whose stamp differs.
    """
    known = run.known()
    now = pc.fill_null(pc.take(stamps, pc.index_in(known.column("image_id"), image_ids)), "")
    before, was_read = known.column("stamp"), pc.not_equal(known.column("digest"), "")
    is_there = pc.not_equal(now, "")
    differs = pc.invert(pc.or_(pc.equal(now, before), pc.equal(_without_ctime(now), before)))
    says_little = pc.invert(pc.starts_with(now, OF_CONTENT)) if verify else pc.ends_with(now, NO_TIME)
    changed: list[str] = known.filter(pc.and_(is_there, pc.and_not(differs, was_read))).column("image_id").to_pylist()
    unsure = known.filter(pc.and_(pc.and_(is_there, was_read), pc.or_(differs, says_little)))
    ids, labeled = unsure.column("image_id").to_pylist(), unsure.column("digest").to_pylist()
    digests = list(in_order(lambda image_id: image_digest(root, image_id), ids))
    changed += [i for i, old, new in zip(ids, labeled, digests, strict=True) if new not in ("", old)]
    unread = pa.array([i for i, new in zip(ids, digests, strict=True) if not new], pa.string())
    labeled_before = known.filter(was_read)
    kept = pc.take(
        labeled_before.column("stamp"), pc.index_in(image_ids, labeled_before.column("image_id").combine_chunks())
    )
    stamps = pc.if_else(pc.equal(stamps, ""), pc.fill_null(kept, ""), stamps)
    return Changes(changed, pc.if_else(pc.is_in(image_ids, unread), "", stamps))


def _without_ctime(stamps: pa.ChunkedArray) -> pa.ChunkedArray:
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
    saved = run.stamps()
    ids = saved.column("image_id").to_pylist()
    as_saved = pc.equal(saved.column("stamp"), pa.array(stamps_of(root, ids), pa.string()))
    saved = saved.filter(as_saved)
    ids = saved.column("image_id").to_pylist()
    began = _time_of(run.path)
    yield
    ended = _time_of(run.path)
    now = pa.chunked_array([pa.array(stamps_of(root, ids), pa.string())])
    same_but_ctime = pc.equal(_without_ctime(now), _without_ctime(saved.column("stamp")))
    ctimes = pc.struct_field(pc.extract_regex(now, _LOCAL_STAMP), "ctime")
    ctimes = pc.cast(pc.if_else(same_but_ctime, ctimes, None), pa.int64())
    meanwhile = pc.and_(pc.greater_equal(ctimes, began), pc.less_equal(ctimes, ended))
    linked = pc.fill_null(pc.and_(meanwhile, pc.not_equal(now, saved.column("stamp"))), False)
    if pc.any(linked).as_py():
        run.restamp(saved.column("image_id").filter(linked).combine_chunks(), now.filter(linked).combine_chunks())


def _time_of(folder: AnyPath) -> int:
    """The time in nanoseconds since 1970, by the clock of the file system of ``folder``, which may be a server's."""
    with tempfile.NamedTemporaryFile(dir=str(folder), prefix=".", suffix=".partial") as probe:
        return Path(probe.name).stat().st_ctime_ns
