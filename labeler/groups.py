"""Masks over several objects of one class, such as one mask over a herd beside a mask of each animal.

A detector gives one box to a herd and one to each animal, and either may have the better score. Overlap filters alone
then keep the herd in place of the animals, or both. Here the herd gives way: its members are the better labels.

The opposite case is an object beside its own parts, which some detectors give the object's class too. Parts seldom
cover their object without overlapping each other, and seldom score like it; both are required of members.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labeler.geometry.masks import Rle, mask_containment, mask_union

LEAST_MEMBERS = 2
MEMBER_INSIDE = 0.8  # share of a member that lies inside the group's mask
MEMBER_OVERLAP = 0.2  # share of a member that may lie inside another
MEMBER_SCORE = 0.75  # of the group's score; at least two members reach it, which the parts of one object seldom do


def find_groups(
    rles: Sequence[Rle],
    areas: NDArray[np.int64],
    shared: NDArray[np.float64],
    scores: Sequence[float],
    solid: Sequence[bool],
    candidates: Sequence[int],
    coverage: float,
) -> list[int]:
    """Indices of those ``candidates`` that are masks over several of the others.

    A mask is one over a group if masks inside it, which hardly overlap each other, cover ``coverage`` of it together,
    and at least two of them are solid and reach ``MEMBER_SCORE`` times its score. A smaller group is never a member of
    a larger one; its members are.

    Args:
        rles: masks of one image and one class, of one size.
        areas: in pixels, int64 ``(n,)``.
        shared: areas that their tight boxes share, float64 ``(n, n)``.
        scores: one per mask.
        solid: one per mask; others help to cover a group but do not make one. An animal that scores too low to be kept
            still shows that the mask is over several animals.
        candidates: indices of the masks to look at; they are solid.
        coverage: in (0, 1].
    """
    order = np.array(sorted(range(len(rles)), key=lambda index: (not solid[index], -scores[index], index)), np.int_)
    is_group = np.zeros(len(rles), np.bool_)
    groups: list[int] = []
    for group in sorted(candidates, key=lambda index: (areas[index], index)):
        # The box that two masks share is an upper limit of what they share.
        inside_box = shared[group] / np.maximum(areas, 1) >= MEMBER_INSIDE
        smaller = (areas > 0) & (areas < areas[group]) & inside_box & ~is_group
        if np.count_nonzero(smaller) < LEAST_MEMBERS:
            continue
        near = order[smaller[order]].tolist()
        likely = [index for index in near if solid[index] and scores[index] >= MEMBER_SCORE * scores[group]]
        if len(likely) < LEAST_MEMBERS or areas[near].sum() < coverage * areas[group]:
            continue
        inside = mask_containment([rles[index] for index in near], [rles[group]])[:, 0] >= MEMBER_INSIDE
        members = _apart(rles, [index for index, is_inside in zip(near, inside, strict=True) if is_inside])
        if len(set(members).intersection(likely)) < LEAST_MEMBERS:
            continue
        covered = mask_containment([rles[group]], [mask_union([rles[index] for index in members])])[0, 0]
        if covered >= coverage:
            groups.append(group)
            is_group[group] = True
    return groups


def _apart(rles: Sequence[Rle], ranked: Sequence[int]) -> list[int]:
    """Of ``ranked``, those that hardly overlap any that is taken before them."""
    taken: list[int] = []
    for index in ranked:
        others = [rles[other] for other in taken]
        overlap = [*mask_containment([rles[index]], others).flat, *mask_containment(others, [rles[index]]).flat]
        if not overlap or max(overlap) <= MEMBER_OVERLAP:
            taken.append(index)
    return taken
