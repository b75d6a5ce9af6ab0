"""Which images trainers write into."""

from __future__ import annotations

import os
from pathlib import Path


def is_rewritten_by_trainers(path: Path) -> bool:
    """Whether trainers rewrite the file in place: a JPEG that does not end with the end-of-image marker.

    Ultralytics does so in ``verify_image``; through a link it would overwrite the user's own photo.
    """
    try:
        with open(path, "rb") as file:
            if file.read(3) != b"\xff\xd8\xff":
                return False
            file.seek(-2, os.SEEK_END)
            return file.read(2) != b"\xff\xd9"
    except OSError:
        return False
