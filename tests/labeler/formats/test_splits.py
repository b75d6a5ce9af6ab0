"""The rules of splits, on many random histories of a dataset."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest

from labeler.errors import UsageError
from labeler.formats.split_config import SplitRule, check_split
from labeler.formats.split_groups import Groups, group_images
from labeler.formats.splits import NO_SPLIT, SPLITS, Resplit, assign, find_leaks

Image = tuple[str, str]
"""Image id and content."""


def groups_of(images: list[Image], split_by: str) -> Groups:
    ids, contents = ([image[part] for image in images] for part in (0, 1))
    return group_images(pa.array(ids, pa.string()), pa.array(contents, pa.string()), split_by)


def split(
    images: list[Image], rule: SplitRule, stored: dict[str, str] | None = None, resplit: Resplit = ""
) -> dict[str, str]:
    """The split of each image, by id."""
    before = [SPLITS.index(stored[name]) if stored and name in stored else NO_SPLIT for name, _ in images]
    after = assign(groups_of(images, rule.split_by), np.array(before, np.int8), rule, resplit)
    return {name: SPLITS[number] for (name, _), number in zip(images, after.tolist(), strict=True)}


def together(images: list[Image], by_folder: bool) -> list[set[str]]:
    """The groups by definition: images are joined by a common content, and on request by a common folder."""
    groups = [{name} for name, _ in images]
    shared: dict[str, list[str]] = defaultdict(list)
    for name, content in images:
        shared[f"content {content}"].append(name)
        if by_folder:
            shared[f"folder {name.rpartition('/')[0]}"].append(name)
    for names in shared.values():
        joined = [group for group in groups if group & set(names)]
        groups = [group for group in groups if not group & set(names)] + [set[str]().union(*joined)]
    return groups


def random_images(random_: random.Random, count: int) -> list[Image]:
    """Images of which some are copies of others, in a few folders."""
    contents = [f"content {random_.randrange(1000)}" for _ in range(random_.randint(1, count))]
    return [(f"{random_.randrange(4)}/{number}.png", random_.choice(contents)) for number in range(count)]


def random_rule(random_: random.Random, split_by: str) -> SplitRule:
    val = random_.choice((0.0, 0.05, 0.2, 0.5, 1.0))
    test = random_.choice([share for share in (0.0, 0.01, 0.3) if val + share <= 1])
    return SplitRule(split_by, val, test, random_.randrange(3))


@pytest.mark.parametrize("split_by", ["content", "folder", r"regex:^\d+/", r"regex:^(\d+)/"])
def test_no_group_of_a_new_dataset_is_in_two_splits(split_by: str) -> None:
    random_ = random.Random(split_by)
    for _ in range(60):
        images, rule = random_images(random_, random_.randint(1, 25)), random_rule(random_, split_by)
        splits = split(images, rule)
        groups = together(images, by_folder=split_by != "content")
        for group in groups:
            assert len({splits[name] for name in group}) == 1
        numbers = np.array([SPLITS.index(each) for each in splits.values()], np.int8)
        assert find_leaks(groups_of(images, split_by), numbers, []) == []
        shuffled = images.copy()
        random_.shuffle(shuffled)
        assert split(shuffled, rule) == splits
        asked = [name for name, share in zip(SPLITS, rule.shares, strict=True) if share]
        assert set(asked[: len(groups)]) <= set(splits.values()) <= set(asked)


@pytest.mark.parametrize("split_by", ["content", "folder", r"regex:#(\d+)$"])
def test_frames_of_one_file_are_one_group(split_by: str) -> None:
    images = [("a/scan.tif", "1"), ("b/x.png", "2"), ("a/scan.tif#0002", "3"), ("b/scan.tif#0002", "4")]
    images += [("c/scan.tif#0003", "5"), ("c/copy.png", "3"), ("a#b/x.png", "6"), ("a#b.png", "7"), ("a.png#0002", "8")]
    groups: dict[int, set[str]] = defaultdict(set)
    for (name, _), group in zip(images, groups_of(images, split_by).of_image.tolist(), strict=True):
        groups[group].add(name)
    assert list(groups) == sorted(groups)
    found = list(groups.values())
    scan = {"a/scan.tif", "a/scan.tif#0002", "c/copy.png"}
    if split_by == "content":
        assert found == [scan, *({name} for name, _ in images if name not in scan)]
    elif split_by == "folder":
        assert found == [
            scan | {"c/scan.tif#0003"},
            {"b/x.png", "b/scan.tif#0002"},
            {"a#b/x.png"},
            {"a#b.png", "a.png#0002"},
        ]
    else:  # the pattern is wrong for frames, and what it joins stays joined
        assert {*scan, "b/scan.tif#0002", "a.png#0002"} in found
    stored = {"a/scan.tif": "test"}
    assert split(images, SplitRule(split_by, 0.5, 0.1), stored)["a/scan.tif#0002"] == "test"


@pytest.mark.parametrize("split_by", ["content", "folder"])
def test_an_image_never_moves_and_a_new_one_joins_its_group(split_by: str) -> None:
    random_ = random.Random(split_by)
    for _ in range(40):
        images = random_images(random_, 40)
        stored: dict[str, str] = {}
        for end in sorted(random_.sample(range(1, 40), 4)):
            edited = random_.randrange(end)
            images[edited] = (images[edited][0], f"edited {end}")
            known = images[:end]
            splits = split(known, random_rule(random_, split_by), stored)
            assert {name: splits[name] for name, _ in known if name in stored} == {
                name: stored[name] for name, _ in known if name in stored
            }
            for group in together(known, by_folder=split_by == "folder"):
                counts = Counter(stored[name] for name in group if name in stored)
                new = {splits[name] for name in group if name not in stored}
                assert len(new) <= 1
                if counts and new:
                    assert counts[next(iter(new))] == max(counts.values())
            stored |= splits


def test_resplit_joins_leaking_groups_and_leaves_the_others() -> None:
    """Only a split that is asked for and empty gets another group, a single one."""
    random_ = random.Random(0)
    for _ in range(60):
        images = random_images(random_, 30)
        rule = SplitRule("content", 0.3, 0.2)
        stored = {name: random_.choice(SPLITS) for name, _ in images}
        splits = split(images, rule, stored, "leaks")
        groups = together(images, by_folder=False)
        assert len(set(splits.values())) == min(len(groups), 3)
        in_split = Counter(next(iter({splits[name] for name in group})) for group in groups)
        for group in groups:
            counts = Counter(stored[name] for name in group)
            (now,) = {splits[name] for name in group}
            assert counts[now] == max(counts.values()) or in_split[now] == 1
        assert split(images, rule, stored, "all") == split(images, rule)


def test_a_tie_is_decided_as_for_a_new_group() -> None:
    for number in range(50):
        pair = [("a.png", str(number)), ("b.png", str(number))]
        others = [(f"{each}.jpg", f"other {each}") for each in range(8)]
        rule = SplitRule(val_share=0.5, seed=number)
        stored = {"a.png": "val", "b.png": "train"} | {name: SPLITS[each % 2] for each, (name, _) in enumerate(others)}
        splits = split([*pair, *others], rule, stored, "leaks")
        assert {splits["a.png"], splits["b.png"]} == {split([*pair, *others], rule)["a.png"]}
        assert {name: splits[name] for name, _ in others} == {name: stored[name] for name, _ in others}


def test_shares_are_kept_and_a_larger_one_contains_a_smaller_one() -> None:
    images = [(f"{number}.png", f"content {number}") for number in range(4000)]
    chosen = {share: split(images, SplitRule(val_share=share, test_share=0.1)) for share in (0.2, 0.3)}
    counts = Counter(chosen[0.2].values())
    assert abs(counts["val"] - 800) < 4 * (4000 * 0.2 * 0.8) ** 0.5  # standard deviations
    assert abs(counts["test"] - 400) < 4 * (4000 * 0.1 * 0.9) ** 0.5
    for name, _ in images:
        assert chosen[0.2][name] == chosen[0.3][name] or (chosen[0.2][name], chosen[0.3][name]) == ("train", "val")
    assert chosen[0.2] != split(images, SplitRule(val_share=0.2, test_share=0.1, seed=1))


def test_leaks_are_named_by_their_first_image_in_each_split() -> None:
    images = [("a", "1"), ("b", "2"), ("c", "1"), ("d", "1"), ("e", "3"), ("f", "2"), ("g", "3")]
    splits = np.array([0, 1, 0, 1, 2, 1, NO_SPLIT], np.int8)
    (leak,) = find_leaks(groups_of(images, "content"), splits, [name for name, _ in images])
    assert (leak.images, leak.first) == ({"train": 2, "val": 1}, {"train": "a", "val": "d"})


@pytest.mark.parametrize(
    ("pattern", "groups", "unmatched"),
    [
        (r"clip\d+", [{"clip1/a", "x/clip1_b"}, {"clip2/a"}, {"other"}], 1),
        (r"(clip)\d+", [{"clip1/a", "x/clip1_b", "clip2/a"}, {"other"}], 1),
        (r"^([^/]+)/", [{"clip1/a"}, {"x/clip1_b"}, {"clip2/a"}, {"other"}], 1),
        (r"(?i)/A|(other)", [{"clip1/a", "clip2/a"}, {"x/clip1_b"}, {"other"}], 1),
        (r"z*", [{"clip1/a"}, {"x/clip1_b"}, {"clip2/a"}, {"other"}], 4),
    ],
)
def test_the_first_capture_group_or_the_match_names_the_group(
    pattern: str, groups: list[set[str]], unmatched: int
) -> None:
    images = [(name, name) for name in ("clip1/a", "x/clip1_b", "clip2/a", "other")]
    found = groups_of(images, f"regex:{pattern}")
    assert found.unmatched == unmatched
    named: dict[int, set[str]] = defaultdict(set)
    for (name, _), group in zip(images, found.of_image.tolist(), strict=True):
        named[group].add(name)
    assert sorted(map(sorted, named.values())) == sorted(map(sorted, groups))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (SplitRule("folders"), "content, folder or regex:PATTERN"),
        (SplitRule("regex:"), "content, folder or regex:PATTERN"),
        (SplitRule("regex:(a"), "missing )"),
        (SplitRule(r"regex:(.)\1"), "RE2"),
        (SplitRule(val_share=0.8, test_share=0.3), "add up to more than 1"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: SplitRule, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace(")", r"\)")):
        check_split(rule)


def test_a_pattern_that_takes_forever_elsewhere() -> None:
    images = [("a" * 200 + "!", "1"), ("b", "2")]
    assert groups_of(images, "regex:^(a+)+$").unmatched == 2
