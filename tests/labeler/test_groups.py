"""Masks over groups, beside the masks of their members and of parts: rectangles whose overlaps are known by hand."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from labeler.quality import judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

HEIGHT, WIDTH = 100, 400
Box = tuple[int, int, int, int]
GROUP = "group of others"


def over(*boxes: Box, score: float, class_id: int = 0, **values: Any) -> Instance:
    """One mask over rectangles ``x1, y1, x2, y2``; the segmenter is sure, so that ``score`` decides alone."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = 1
    edges = np.array(boxes, dtype=float)
    box = (*edges[:, :2].min(axis=0).tolist(), *edges[:, 2:].max(axis=0).tolist())
    fields: dict[str, Any] = {"mask_score": 1.0, "stability": 1.0, "area": int(mask.sum())} | values
    rle = coco_mask.encode(np.asfortranarray(mask))
    return Instance(class_id, "sheep", box, score, rle=rle, **fields)


def judged(
    *items: Instance, by_hand: dict[int, Literal["accept", "reject"]] | None = None, **quality: float
) -> list[str]:
    record = ImageRecord("a.jpg", WIDTH, HEIGHT, "00", instances=items)
    config = QualityConfig(max_area_share=1, **quality)
    judgements = judge(record, config, [ClassSpec("sheep"), ClassSpec("dog")], by_hand)
    return [each.reason or each.verdict for each in judgements]


SHEEP: list[Box] = [(20 + 90 * n, 10, 90 + 90 * n, 90) for n in range(4)]


@pytest.mark.parametrize("score", [0.35, 0.5, 0.62])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_members_are_preferred_whichever_scores_higher(count: int, score: float) -> None:
    members = [over(box, score=0.5 - 0.01 * n) for n, box in enumerate(SHEEP[:count])]
    assert judged(over(*SHEEP[:count], score=score), *members) == [GROUP] + ["accept"] * count
    assert judged(*members, over(*SHEEP[:count], score=score)) == ["accept"] * count + [GROUP], "order does not matter"
    assert judged(over(*SHEEP[:count], score=score), *members, group_share=0)[0] == "accept", "0 switches it off"


@pytest.mark.parametrize(
    ("items", "outcome"),
    [
        # an object beside its parts: they score far lower than it
        ([over((0, 0, 100, 80), score=0.9), over((0, 0, 50, 80), score=0.5), over((50, 0, 100, 80), score=0.4)],
         ["accept", "contained", "contained"]),
        # one good part and a poor one
        ([over((0, 0, 100, 80), score=0.6), over((0, 0, 50, 80), score=0.6), over((50, 0, 100, 80), score=0.4)],
         ["accept", "contained", "contained"]),
        # parts that overlap each other by half: one object, seen thrice
        ([over((0, 0, 120, 80), score=0.6), over((0, 0, 80, 80), score=0.55), over((40, 0, 120, 80), score=0.5)],
         ["accept", "contained", "contained"]),
        # neighbours that overlap a little, as loose masks do: 10 of 60 columns
        ([over((0, 0, 110, 80), score=0.6), over((0, 0, 60, 80), score=0.55), over((50, 0, 110, 80), score=0.5)],
         [GROUP, "accept", "accept"]),
        # two heads cover a quarter of the mask
        ([over((0, 0, 100, 80), score=0.6), over((0, 0, 25, 40), score=0.6), over((50, 0, 75, 40), score=0.6)],
         ["accept", "contained", "contained"]),
        # heads of another class are nobody's members
        ([over((0, 0, 100, 80), score=0.6), *(over((x, 0, x + 50, 80), score=0.6, class_id=1) for x in (0, 50))],
         ["accept", "accept", "accept"]),
        # a mask around two objects and the ground between them: 0.75 are covered; then 0.8
        ([over((0, 0, 160, 80), score=0.6), over((0, 0, 60, 80), score=0.6), over((100, 0, 160, 80), score=0.6)],
         ["accept", "contained", "contained"]),
        ([over((0, 0, 150, 80), score=0.6), over((0, 0, 60, 80), score=0.6), over((90, 0, 150, 80), score=0.6)],
         [GROUP, "accept", "accept"]),
        # the third member is too weak to be kept, but shows what the mask is over
        ([over(*SHEEP[:3], score=0.5), *(over(box, score=0.45) for box in SHEEP[:2]), over(SHEEP[2], score=0.2)],
         [GROUP, "accept", "accept", "low score"]),
        # only one member is good enough: the group is the only label for the others
        ([over(*SHEEP[:2], score=0.5), over(SHEEP[0], score=0.45), over(SHEEP[1], score=0.2)],
         ["accept", "contained", "low score"]),
        # members are judged as if the group were absent: one goes to review, one is a duplicate
        ([over(*SHEEP[:2], score=0.39), over(SHEEP[0], score=0.35), over((20, 10, 90, 88), score=0.34),
          over(SHEEP[1], score=0.37, mask_score=0.8)],
         [GROUP, "accept", "duplicate", "uncertain"]),
        # a group and groups in it
        ([over(*SHEEP, score=0.5), over(*SHEEP[:2], score=0.52), over(*SHEEP[2:], score=0.48),
          *(over(box, score=0.5) for box in SHEEP)],
         [GROUP] * 3 + ["accept"] * 4),
        # two masks over one group
        ([over(*SHEEP[:2], score=0.5), over(*SHEEP[:2], (20, 8, 40, 10), score=0.52),
          *(over(box, score=0.5) for box in SHEEP[:2])],
         [GROUP, GROUP, "accept", "accept"]),
        # a group suppresses nothing of another class: the dog is over the same pixels
        ([over(*SHEEP[:2], score=0.6), *(over(box, score=0.5) for box in SHEEP[:2]),
          over(*SHEEP[:2], score=0.55, class_id=1)],
         [GROUP, "accept", "accept", "accept"]),
        # one object, seen twice, and a part of it
        ([over((0, 0, 100, 80), score=0.6), over((0, 0, 98, 80), score=0.58), over((0, 0, 20, 80), score=0.55)],
         ["accept", "duplicate", "contained"]),
    ],
)  # fmt: skip
def test_groups_and_parts(items: list[Instance], outcome: list[str]) -> None:
    assert judged(*items) == outcome


def test_decisions_by_hand_come_first() -> None:
    items = [over(*SHEEP[:2], score=0.5), *(over(box, score=0.45) for box in SHEEP[:2])]
    assert judged(*items, by_hand={0: "accept"}) == ["accept", "contained", "contained"]
    assert judged(*items, by_hand={0: "reject"}) == ["by hand", "accept", "accept"]
    assert judged(*items, by_hand={1: "reject"}) == ["accept", "by hand", "contained"]
    weak = [over(*SHEEP[:2], score=0.9), *(over(box, score=0.45) for box in SHEEP[:2])]
    assert judged(*weak) == ["accept", "contained", "contained"]
    assert judged(*weak, by_hand={1: "accept", 2: "accept"}) == [GROUP, "accept", "accept"]


def test_another_score_decides() -> None:
    """By the joint score, the parts fall far short of the whole; by the detector's, they do not."""
    items = [over(*SHEEP[:2], score=0.6), *(over(box, score=0.6, mask_score=0.6) for box in SHEEP[:2])]
    assert judged(*items) == ["accept", "contained", "contained"]
    record = ImageRecord("a.jpg", WIDTH, HEIGHT, "00", instances=tuple(items))
    judgements = judge(record, QualityConfig("detector", max_area_share=1), [ClassSpec("sheep")])
    assert [each.reason for each in judgements] == [GROUP, "", ""]
