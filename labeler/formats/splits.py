"""Divides images into train, val and test: once, and whole groups at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from labeler.formats.split_config import SplitRule
from labeler.formats.split_groups import Groups

SPLITS = ("train", "val", "test")
NO_SPLIT = -1
Resplit = Literal["", "leaks", "all"]
Splits = npt.NDArray[np.int8]
"""``(images,)``: the index of each image's split in ``SPLITS``, or ``NO_SPLIT``."""


@dataclass(frozen=True)
class Leak:
    """A group that is in more than one split.

    Attributes:
        images: number of its images, by split.
        first: the first of them, by split.
    """

    images: dict[str, int]
    first: dict[str, str]


def assign(groups: Groups, stored: Splits, rule: SplitRule, resplit: Resplit = "") -> Splits:
    """The split of every image.

    An image that has a split keeps it. A new image joins the split of its group; if the group has none, a hash of its
    key decides, so neither the order of images nor other groups matter. If a group is in several splits, the one with
    most of its images counts; if several have the most, the one that the hash would choose, or the first of them.
    Splits that are asked for do not stay empty while there are groups to give them (see ``_fill``).

    Args:
        stored: the splits that the images have.
        resplit: ``leaks`` moves each group that is in several splits to the one that counts; ``all`` ignores
            ``stored``.
    """
    if resplit == "all":
        stored = np.full_like(stored, NO_SPLIT)
    held = _images_by_split(groups, stored)
    positions = np.array([_position(key, rule.seed) for key in groups.keys])
    by_hash = _by_position(positions, rule)
    splits = _home(held, by_hash)
    is_new = held.sum(axis=1) == 0
    _fill(splits, groups.keys, positions, is_new | (resplit != ""), held > 0, rule)
    of_image = splits[groups.of_image]
    return of_image if resplit else np.where(stored == NO_SPLIT, of_image, stored).astype(np.int8)


def find_leaks(groups: Groups, splits: Splits, image_ids: Sequence[str]) -> list[Leak]:
    """The groups that are in more than one split, in the order of their first images; ``image_ids`` can be an array."""
    held = _images_by_split(groups, splits)
    leaking = (held > 0).sum(axis=1) > 1
    leaks: dict[int, Leak] = {}
    for row in np.flatnonzero(leaking[groups.of_image] & (splits != NO_SPLIT)).tolist():
        group, split = int(groups.of_image[row]), SPLITS[splits[row]]
        leak = leaks.setdefault(group, Leak({}, {}))
        leak.images[split] = leak.images.get(split, 0) + 1
        leak.first.setdefault(split, str(image_ids[row]))
    return list(leaks.values())


def in_validation(name: str, share: float, seed: int) -> bool:
    """Whether an image belongs to the validation split by a hash of its name and the seed alone.

    This decided the split before splits were stored.
    """
    return _position(name, seed) < share


def _position(key: str, seed: int) -> float:
    """A number in [0, 1) that looks random, and is the same for the same key and seed."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(errors="surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def _by_position(positions: npt.NDArray[np.float64], rule: SplitRule) -> Splits:
    """Val takes the least and test the greatest positions, so a larger share contains the groups of a smaller one."""
    train, val, test = rule.shares
    above = np.where(positions >= (1 - test if train else val), 2 if test else 0, 0)
    return np.where(positions < val, 1, above).astype(np.int8)


def _images_by_split(groups: Groups, splits: Splits) -> npt.NDArray[np.int64]:
    """``(groups, splits)``: the number of images."""
    has_split = splits != NO_SPLIT
    cells = groups.of_image[has_split] * len(SPLITS) + splits[has_split]
    return np.bincount(cells, minlength=len(groups.keys) * len(SPLITS)).reshape(-1, len(SPLITS))


def _home(held: npt.NDArray[np.int64], by_hash: Splits) -> Splits:
    """The split that counts for each group."""
    has_most = held == held.max(axis=1, keepdims=True)  # all three for a group without a split
    chosen = has_most[np.arange(len(held)), by_hash]
    return np.where(chosen, by_hash, has_most.argmax(axis=1)).astype(np.int8)


def _fill(
    splits: Splits,
    keys: Sequence[str],
    positions: npt.NDArray[np.float64],
    may_move: npt.NDArray[np.bool_],
    holds: npt.NDArray[np.bool_],
    rule: SplitRule,
) -> None:
    """Give every split that is asked for a group, in place; if there are too few groups, train and then val come first.

    An empty split gets the group whose position is closest to those that belong there.

    Args:
        may_move: of each group.
        holds: ``(groups, splits)``, the splits that the images of a group that may not move are in.
    """
    _, val, test = rule.shares
    ranges = ((val, 1 - test), (0.0, val), (1 - test, 1.0))
    needed = [split for split, share in enumerate(rule.shares) if share > 0][: len(keys)]
    counts = np.bincount(splits[may_move], minlength=len(SPLITS)) + holds[~may_move].sum(axis=0)
    for split in needed:
        if counts[split]:
            continue
        can_give = [other for other in range(len(SPLITS)) if counts[other] > (other in needed)]
        givers = np.flatnonzero(may_move & np.isin(splits, can_give)).tolist()
        if not givers:
            continue
        low, high = ranges[split]
        group = min(givers, key=lambda each: (max(low - positions[each], positions[each] - high), keys[each]))
        counts[splits[group]] -= 1
        counts[split] += 1
        splits[group] = split
