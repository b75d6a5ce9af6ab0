"""Which labeled images are not what they were: by content, or first by what the file system says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labeler.images import content_digest
from labeler.listing import OF_CONTENT
from labeler.storage import in_order, read_bytes
from workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from labeler.storage import AnyPath


def changed_images(
    run: RunFolder, root: AnyPath, image_ids: Sequence[str], stamps: Sequence[str], fast: bool
) -> list[str]:
    """The labeled images below ``root`` whose content is another than the one labeled.

    Where a store states checksums, only what has another is read. An image that could not be read has no digest to
    compare with: it counts as changed once its stamp differs.

    Args:
        image_ids, stamps: of the input, as ``labeler.listing`` gives them.
        fast: read only files whose stamp differs; what changes without trace in size and time is missed.
    """
    stamp_of = dict(zip(image_ids, stamps, strict=True))
    known = run.known()
    changed, unsure = list[str](), list[tuple[str, str]]()
    for image_id, stamp, digest in zip(
        *(known.column(n).to_pylist() for n in ("image_id", "stamp", "digest")), strict=True
    ):
        if not (now := stamp_of.get(image_id, "")):
            continue  # gone
        if not digest:
            changed += [image_id] * (now != stamp)
        elif now != stamp or not (fast or now.startswith(OF_CONTENT)):
            unsure.append((image_id, digest))
    digests = in_order(lambda pair: _digest(root / pair[0]), unsure)
    return changed + [image_id for (image_id, old), new in zip(unsure, digests, strict=True) if new not in ("", old)]


def _digest(path: AnyPath) -> str:
    """Empty if the file cannot be read; the labels it has are then all there is."""
    try:
        return content_digest(read_bytes(path))
    except OSError:
        return ""
