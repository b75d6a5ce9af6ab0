"""Imports OpenCV when it is first needed.

``autodistill`` requires ``opencv-python``, which needs libGL. It installs into the same folder as the headless build
that this package requires, and may replace it. On a server without libGL the import then fails, but commands that do
not use OpenCV must still work.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from labeler.errors import LabelerError


@cache
def opencv() -> Any:
    """The module ``cv2``.

    Raises:
        LabelerError: it cannot be imported; the message says how to repair the installation.
    """
    try:
        import cv2
    except ImportError as error:
        cause = " ".join(str(error).split()) or type(error).__name__
    else:
        if hasattr(cv2, "findContours"):
            return cv2
        cause = "its package is empty"  # uninstalling one build also removes the files of the other
    raise LabelerError(
        f"OpenCV cannot be imported ({cause}); run `pip uninstall -y opencv-python opencv-python-headless && pip "
        "install opencv-python-headless`, or install libGL (Debian, Ubuntu: `apt-get install libgl1`)"
    )
