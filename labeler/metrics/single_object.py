"""Rules that pick one mask for an image that shows a single object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from labeler.records import Instance

Rule = Literal["mask score", "joint score", "both agree"]
RULES: tuple[Rule, ...] = ("mask score", "joint score", "both agree")


def pick(candidates: Sequence[Instance], rule: Rule) -> Instance | None:
    """The one mask for an image that shows a single object, or None if the rule picks none.

    - ``mask score``: the candidate with the best mask score.
    - ``joint score``: the candidate with the best product of detector score and mask score.
    - ``both agree``: the candidate that has both the best detector score and the best mask score, if there is one.
      It is the pick of ``joint score`` too. The rule shows how often the two models agree, and how good the mask is
      when they do.

    Of candidates with equal scores, the first is picked.

    Args:
        candidates: all candidates of one image and class.
    """
    if not candidates:
        return None
    if rule == "mask score":
        return max(candidates, key=lambda each: each.mask_score)
    if rule == "joint score":
        return max(candidates, key=lambda each: each.joint_score)
    best = max(candidates, key=lambda each: (each.score, each.mask_score))
    return best if best.mask_score == max(each.mask_score for each in candidates) else None
