"""Which image ids stay inside the folder that they are joined to: ``os.path`` is the reference."""

from __future__ import annotations

import os.path

import pyarrow as pa
import pytest

from labeler.files.image_ids import check_image_id, check_image_ids

INSIDE = [
    "a.png",
    "sub/a.png",
    "a b/ü.png",
    "...",
    "..a",
    "a..",
    ".hidden/a.png",
    "new\nline.png",
    "back\\slash.png",
    "~",
]
OUTSIDE = [
    "", "/", "/etc/passwd", "//host/share", "..", "../a.png", "a/../../b.png", "a/../b.png", "a/..", ".", "./a.png",
    "a/./b.png", "a//b.png", "a/", "s3://bucket/a.png", "file:///etc/passwd", "nul\0.png", "\n/../a.png",
]  # fmt: skip
WINDOWS = ["C:/a.png", "C:a.png", "C:\\a.png", "\\a.png", "..\\a.png", "a\\..\\..\\b.png", "\\\\host\\share\\a.png"]


@pytest.mark.parametrize("image_id", INSIDE)
def test_inside(image_id: str) -> None:
    assert os.path.normpath(os.path.join("/folder", image_id)) == f"/folder/{image_id}"
    assert check_image_id(image_id, windows=False) == image_id
    check_image_ids(pa.array(["first.png", image_id]))


@pytest.mark.parametrize("image_id", OUTSIDE)
def test_outside(image_id: str) -> None:
    for check in (check_image_id, lambda each: check_image_ids(pa.array(["first.png", each]))):
        with pytest.raises(ValueError, match="not a relative path that stays inside its folder") as raised:
            check(image_id)
        assert repr(image_id) in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("image_id", WINDOWS)
def test_outside_on_windows(image_id: str) -> None:
    check_image_id(image_id, windows=False)
    with pytest.raises(ValueError, match="not a relative path"):
        check_image_id(image_id, windows=True)


def test_what_is_no_text() -> None:
    for image_id in (None, 5, b"a.png", ["a.png"]):
        with pytest.raises(ValueError, match="must be text"):
            check_image_id(image_id)
    with pytest.raises(ValueError, match="has no id"):
        check_image_ids(pa.array(["a.png", None]))
