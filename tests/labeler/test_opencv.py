"""What is said where OpenCV is only half installed; a machine without libGL is in the workflow tests."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from labeler.errors import LabelerError
from labeler.opencv import opencv


def test_an_empty_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of ``cv2`` when one of its two builds was uninstalled."""
    opencv.cache_clear()
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "cv2", ModuleType("cv2"))
        with pytest.raises(LabelerError, match=r"its package is empty.*pip uninstall -y opencv-python "):
            opencv()
    assert opencv().findContours
