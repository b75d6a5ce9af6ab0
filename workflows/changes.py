"""Which labeled images are not what they were: by content, or first by what the file system says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from labeler.images import content_digest
from labeler.listing import OF_CONTENT
from labeler.storage import in_order, read_bytes
from workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from labeler.storage import AnyPath


def changed_images(run: RunFolder, root: AnyPath, image_ids: pa.Array, stamps: pa.Array, fast: bool) -> list[str]:
    """The labeled images below ``root`` whose content is another than the one labeled.

    Where a store states checksums, only what has another is read. An image that could not be read has no digest to
    compare with: it counts as changed once its stamp differs.

    Args:
        image_ids, stamps: of the input, as ``labeler.listing`` gives them.
        fast: read only files whose stamp differs; what changes without trace in size and time is missed.
    """
    known = run.known()
    now = pc.fill_null(pc.take(stamps, pc.index_in(known.column("image_id"), image_ids)), "")
    is_there, was_read = pc.not_equal(now, ""), pc.not_equal(known.column("digest"), "")
    differs = pc.not_equal(now, known.column("stamp"))
    to_read = differs if fast else pc.or_(differs, pc.invert(pc.starts_with(now, OF_CONTENT)))
    changed: list[str] = known.filter(pc.and_(is_there, pc.and_not(differs, was_read))).column("image_id").to_pylist()
    unsure = known.filter(pc.and_(is_there, pc.and_(to_read, was_read)))
    ids, labeled = unsure.column("image_id").to_pylist(), unsure.column("digest").to_pylist()
    digests = in_order(lambda image_id: _digest(root / image_id), ids)
    return changed + [i for i, old, new in zip(ids, labeled, digests, strict=True) if new not in ("", old)]


def _digest(path: AnyPath) -> str:
    """Empty if the file cannot be read; the labels it has are then all there is."""
    try:
        return content_digest(read_bytes(path))
    except OSError:
        return ""
