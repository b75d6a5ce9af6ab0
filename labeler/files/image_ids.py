"""Image ids: relative POSIX paths that stay below the input folder.

A run folder may come from a stranger, and ids are joined to folders that are read and written. Unusual names (with
spaces, newlines, or backslashes on a POSIX system) are accepted, since such files exist.
"""

from __future__ import annotations

import os
import re
from pathlib import PureWindowsPath

import pyarrow as pa
import pyarrow.compute as pc

from labeler.sizes import shown

# An empty part (so also an absolute path), "." or "..", or a NUL. Valid for both Python and Arrow (RE2).
_UNSAFE = r"(^|/)\.{0,2}(/|$)|\x00"
_unsafe = re.compile(_UNSAFE.replace("$", r"\Z"))


def check_image_id(image_id: object, windows: bool = os.name == "nt") -> str:
    """Return ``image_id`` if it is a relative path that stays below the folder it is joined to.

    Args:
        windows: whether backslashes separate folders and colons mark drives.

    Raises:
        ValueError: it is not such a path.
    """
    if not isinstance(image_id, str):
        raise ValueError(f"an image id must be text, not {shown(image_id)}")
    if _unsafe.search(image_id) or (windows and _leaves_on_windows(image_id)):
        raise ValueError(f"the image id {shown(image_id, 200)} is not a relative path that stays inside its folder")
    return image_id


def check_image_ids(image_ids: pa.Array | pa.ChunkedArray) -> None:
    """``check_image_id`` for a whole column.

    Raises:
        ValueError: an id is not a relative path inside its folder; the message shows the first such id.
    """
    image_ids.validate(full=True)  # raises if it is not UTF-8
    if image_ids.null_count:
        raise ValueError("an image has no id")
    if os.name == "nt":
        for image_id in image_ids.to_pylist():
            check_image_id(image_id)
    unsafe = image_ids.filter(pc.match_substring_regex(image_ids, _UNSAFE))
    if len(unsafe):
        check_image_id(unsafe[0].as_py())


def _leaves_on_windows(image_id: str) -> bool:
    path = PureWindowsPath(image_id)
    return bool(path.drive or path.root) or ".." in path.parts
