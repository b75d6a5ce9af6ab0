from __future__ import annotations

import pytest

from labeler.instance_ids import InstanceId
from labeler.records import ImageRecord, Instance, instance_ids


@pytest.mark.parametrize("text", ["0-0-0", "0123456789abcdef0123456789abcdef-0-12", "ff-3-999999999"])
def test_text_and_back(text: str) -> None:
    assert str(InstanceId.from_text(text)) == text


def test_its_parts() -> None:
    assert InstanceId.from_text("ab-0-12") == InstanceId(digest="ab", index=12, labeling_pass=0)
    assert str(InstanceId("ab", 12, 3)) == "ab-3-12"


@pytest.mark.parametrize(
    "text",
    ["", "ab", "ab-0", "ab-0-", "ab-0-1-2", "-0-1", "AB-0-1", "xy-0-1", "ab-00-1", "ab-0-01", "ab-0--1", "ab-0-1\n",
     " ab-0-1", "ab-0-+1", "ab-0-1e3", "ab-0-\u0661", "ab-0-1000000000", "a" * 129 + "-0-1", None, 3, b"ab-0-1"],
)  # fmt: skip
def test_nothing_else_is_an_id(text: object) -> None:
    with pytest.raises(ValueError, match="not an instance id"):
        InstanceId.from_text(text)


def test_instances_keep_the_index_of_their_own_pass() -> None:
    def found(origin: tuple[int, int] | None) -> Instance:
        return Instance(0, "dog", (0, 0, 1, 1), 0.5, 0.5, 0.5, 1, {"size": [1, 1], "counts": b"01"}, origin=origin)

    def ids(*origins: tuple[int, int] | None) -> list[str]:
        record = ImageRecord("a.png", 1, 1, "ab", instances=tuple(map(found, origins)))
        return [str(each) for each in instance_ids(record)]

    assert ids(None, None) == ["ab-0-0", "ab-0-1"]  # as they are in the record of the only pass
    assert ids((1, 0), (0, 2), (0, 0)) == ["ab-1-0", "ab-0-2", "ab-0-0"]
    assert ids((1, 0), (0, 2), None, None) == ["ab-1-0", "ab-0-2", "ab-0-3", "ab-0-4"]  # objects that people added
