"""The message if OpenCV is only partly installed. The workflow tests cover machines without libGL."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from labeler.errors import LabelerError
from labeler.opencv import opencv


def test_an_empty_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty ``cv2``, as it is left when one of its two builds is uninstalled."""
    opencv.cache_clear()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "cv2", ModuleType("cv2"))
        with pytest.raises(LabelerError, match=r"its package is empty.*pip uninstall -y opencv-python "):
            opencv()
    assert opencv().findContours
