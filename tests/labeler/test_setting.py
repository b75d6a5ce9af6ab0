from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from labeler.errors import UsageError
from labeler.setting import check, flag_of, setting


@dataclass(frozen=True)
class Some:
    share: float = setting(0.5, "a share", least=0, most=1)
    part: float = setting(0.1, "less than half", least=0, below=0.5)
    floor: float = setting(0.1, "a floor", above=0, most=1)
    size: float = setting(1.0, "a size", above=0)
    count: int = setting(8, "a count", least=1)
    limit: int | None = setting(None, "a limit", least=1, most=1_000_000)
    name: str = setting("x", "a name", names=("-n", "--called"))
    link: Literal["hard", "copy"] = setting("hard", "a link", choices=("hard", "copy"))
    formats: tuple[str, ...] = setting(("coco",), "formats", choices=("coco", "yolo"))
    scores: Mapping[str, float] = setting({}, "scores", least=0, most=1)
    on: bool = setting(False, "a switch")
    other: object = None

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"share": 0, "part": 0.49, "floor": 1, "size": 1e9, "count": 10**6, "limit": None, "on": True},
        {"share": np.float32(1), "count": np.int64(3)},
        {"formats": ("yolo", "coco")},
        {"formats": ()},
        {"scores": {"dog": 0.3, "cat": 1}},
        {"other": object()},
    ],
)
def test_values_in_range(values: dict[str, Any]) -> None:
    Some(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": -0.1}, "--share must be a number from 0 to 1, not -0.1"),
        ({"share": float("nan")}, "--share must be a number from 0 to 1, not nan"),
        ({"share": True}, "--share must be a number from 0 to 1, not True"),
        ({"share": None}, "--share must be a number from 0 to 1, not None"),
        ({"share": "0.5"}, "--share must be a number from 0 to 1, not '0.5'"),
        ({"part": 0.5}, "--part must be a number from 0 to below 0.5, not 0.5"),
        ({"floor": 0}, "--floor must be a number above 0 and at most 1, not 0"),
        ({"size": 0}, "--size must be a number above 0, not 0"),
        ({"size": 10**400}, "--size must be a number above 0, not 1000"),
        ({"count": 0}, "--count must be a whole number, 1 or more, not 0"),
        ({"count": 1.5}, "--count must be a whole number, 1 or more, not 1.5"),
        ({"limit": 1_000_001}, "--limit must be a whole number from 1 to 1000000, not 1000001"),
        ({"name": 5}, "--called must be text, not 5"),
        ({"link": "soft"}, "--link must be one of hard, copy, not 'soft'"),
        ({"formats": ("coco", "voc")}, "--formats must be one of coco, yolo, not 'voc'"),
        ({"formats": "coco"}, "--formats must be one of coco, yolo, not None"),
        ({"scores": {"dog": 0.3, "cat": 7}}, "--scores of 'cat' must be a number from 0 to 1, not 7"),
        ({"on": 1}, "--on must be true or false, not 1"),
    ],
)
def test_values_out_of_range_are_named_by_their_flag(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Some(**values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_setting_of_no_known_kind_is_a_mistake() -> None:
    @dataclass(frozen=True)
    class Unknown:
        size: complex = setting(1j, "a size")

    with pytest.raises(TypeError, match="size: a setting cannot be of type complex"):
        check(Unknown())


def test_a_positional_argument_is_named_as_help_pages_show_it() -> None:
    @dataclass(frozen=True)
    class Positional:
        images: str = setting(help="images", metavar="IMAGES", positional=True)

    assert flag_of(Positional.__dataclass_fields__["images"]) == "IMAGES"
