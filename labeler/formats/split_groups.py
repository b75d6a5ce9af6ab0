"""Groups of images that must stay in one split: copies of one image, frames of one file, and what the user says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.frames import file_of
from labeler.formats.split_config import REGEX


@dataclass(frozen=True)
class Groups:
    """Which images are one group.

    Attributes:
        of_image: ``(images,)`` int64, the index of each image's group, in the order of the groups' first images.
        keys: by group, a text that does not depend on the order or number of other images.
        unmatched: number of images that the regular expression does not match.
    """

    of_image: npt.NDArray[np.int64]
    keys: list[str]
    unmatched: int = 0


def group_images(image_ids: pa.Array, digests: pa.Array, split_by: str) -> Groups:
    """Group images by content, folder or a regular expression.

    Copies of one image are always in one group, and so are the frames of one file: folders that share an image are one
    group, too.

    Args:
        image_ids: string array.
        digests: string array, the digest of each image's content.
        split_by: ``content``; ``folder``, the folder of the image; or ``regex:PATTERN`` in the syntax of RE2, where the
            first capture group of the first match in the image id, or without one the whole match, names the group. An
            image that does not match is grouped by its content.
    """
    unmatched = 0
    if split_by == "content":
        names = digests
    elif split_by == "folder":
        names = pc.replace_substring_regex(image_ids, "[^/]*$", "")
    else:
        found = _matches(image_ids, split_by.removeprefix(REGEX))
        is_match = pc.not_equal(found, "")
        unmatched = len(found) - int(pc.sum(is_match).as_py() or 0)
        names = pc.if_else(is_match, found, digests)
    of_name, keys = _numbered(names)
    others = [] if split_by == "content" else [_numbered(digests)[0]]
    if (files := _files(image_ids)) is not None:
        others.append(_numbered(files)[0])
    return Groups(*_joined(of_name, keys, others), unmatched)


def _files(image_ids: pa.Array) -> pa.Array | None:
    """The file of each image; None if no image is a further frame of a file."""
    rows = np.flatnonzero(np.asarray(pc.match_substring(image_ids, "#")))
    ids = image_ids.take(pa.array(rows)).to_pylist()
    files = [file_of(image_id) for image_id in ids]
    if files == ids:
        return None
    is_marked = np.zeros(len(image_ids), np.bool_)
    is_marked[rows] = True
    return pc.replace_with_mask(image_ids, pa.array(is_marked), pa.array(files, pa.string()))


def _matches(image_ids: pa.Array, pattern: str) -> pa.Array:
    """What ``pattern`` finds in each id; empty if it finds nothing."""
    around = rf"(?s)\A.*?({pattern}).*\z"
    whole = pc.replace_substring_regex(image_ids, around, r"\1")
    try:
        first = pc.replace_substring_regex(image_ids, around, r"\2")
    except pa.ArrowInvalid:  # the pattern has no capture group
        first = pa.array([""] * len(image_ids), pa.string())
    found = pc.if_else(pc.equal(first, ""), whole, first)
    return pc.if_else(pc.match_substring_regex(image_ids, pattern), found, "")


def _numbered(names: pa.Array) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The number of each name, and the name of each number."""
    encoded = names.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _joined(
    of_name: npt.NDArray[np.int64], keys: list[str], others: list[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Groups after joining those that share a number in one of ``others``; their key is the least of their keys."""
    if not others:
        return of_name, keys
    from scipy.sparse import coo_array  # takes half a second to import
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([len(keys), *(int(each.max(initial=-1)) + 1 for each in others)])
    linked = np.concatenate([start + each for start, each in zip(starts[:-1], others, strict=True)])
    edges = (np.ones(len(linked), np.int8), (np.tile(of_name, len(others)), linked))
    count, component = connected_components(coo_array(edges, shape=(int(starts[-1]),) * 2), directed=False)
    # Every component has a name, since each number of ``others`` belongs to an image.
    least: list[str | None] = [None] * count
    for key, group in zip(keys, component[: len(keys)].tolist(), strict=True):
        known = least[group]
        least[group] = key if known is None or key < known else known
    return component[of_name].astype(np.int64), [key or "" for key in least]
