"""The rules that pick one mask per image."""

from __future__ import annotations

import numpy as np
import pytest

from labeler.geometry.masks import mask_to_rle, rle_box_xyxy
from labeler.metrics.single_object import RULES, pick
from labeler.records import Instance


def candidate(score: float, mask_score: float) -> Instance:
    rle = mask_to_rle(np.ones((4, 4), dtype=bool))
    return Instance(0, "", rle_box_xyxy(rle), score, mask_score, 1, 16, rle)


# (detector score, mask score) of the candidates, and the one that each of RULES picks
@pytest.mark.parametrize(
    ("scores", "picked"),
    [
        ([], (None, None, None)),
        ([(0.5, 0.5)], (0, 0, 0)),
        ([(0.9, 0.8), (0.5, 0.7)], (0, 0, 0)),
        ([(0.9, 0.8), (0.5, 0.9)], (1, 0, None)),
        ([(0.5, 0.9), (0.6, 0.1), (0.55, 0.85)], (0, 2, None)),
        ([(0.7, 0.3), (0.7, 0.9)], (1, 1, 1)),
        ([(0.7, 0.9), (0.7, 0.9)], (0, 0, 0)),
    ],
)
def test_picks(scores: list[tuple[float, float]], picked: tuple[int | None, ...]) -> None:
    candidates = [candidate(*pair) for pair in scores]
    for rule, wanted in zip(RULES, picked, strict=True):
        assert pick(candidates, rule) is (None if wanted is None else candidates[wanted])


def test_falling_back_to_the_joint_score_is_the_joint_score() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        candidates = [candidate(*pair) for pair in rng.random((4, 2)).tolist()]
        agreed = pick(candidates, "both agree")
        assert agreed is None or agreed is pick(candidates, "joint score")
