"""Decisions as rows of a file, and the last of several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from labeler.decisions import Decision, latest
from labeler.errors import FormatError, RunError
from labeler.geometry.masks import Rle, mask_to_rle
from labeler.instance_ids import InstanceId


def mask(x: int) -> Rle:
    pixels = np.zeros((40, 100), dtype=bool)
    pixels[10:30, x : x + 20] = True
    return mask_to_rle(pixels)


def on(x: int, verdict: Any = "accept", **values: Any) -> Decision:
    return Decision("a.png", verdict, "dog", mask(x), **values)


def added(x: int, verdict: Any = "accept") -> Decision:
    return Decision("a.png", verdict, None, None, "cat", mask(x))


def test_latest() -> None:
    copy = replace(on(1, "reject"), image_id="copy of a.png")
    given = [on(0), on(1), on(0, "reject"), copy, added(0), added(0, "none")]
    assert latest(given) == [on(1), on(0, "reject"), copy, added(0, "none")]


@pytest.mark.parametrize(
    "decision",
    [on(0, new_class="cat", new_rle=mask(3)), added(4), on(0, "none"), on(0, instance=InstanceId("0123abcd", 12))],
)
def test_rows_hold_everything(decision: Decision) -> None:
    row = decision.to_row()
    assert Decision.from_row(row) == decision
    assert row.get("instance") == (None if decision.instance is None else "0123abcd-0-12")


def test_rows_of_the_first_version_have_no_id() -> None:
    """Nor do rows that people write by hand; a row of today without an id is such a row."""
    old = {"image_id": "a.png", "verdict": "reject", "class": "dog", "mask": on(0).to_row()["mask"]}
    assert Decision.from_row(old) == on(0, "reject")
    assert on(0, "reject").to_row() == {**old, "new_class": None, "new_mask": None}
    with pytest.raises(RunError, match="newer labeler"):
        Decision.from_row({**old, "version": 3})


@pytest.mark.parametrize(
    "broken",
    [
        {"verdict": "maybe"},
        {"image_id": "\ud800"},
        {"image_id": "../a.png"},
        {"mask": {"size": [float("inf"), 10], "counts": "0"}},
        {"class": 3},
        {"class": None},
        {"instance": 3},
        {"instance": "0123abcd"},
        {"instance": "0123abcd-0-1x"},
        {"instance": "../x-0-1"},
    ],
)
def test_what_is_not_a_decision_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="not a decision"):
        Decision.from_row(on(0).to_row() | broken)
