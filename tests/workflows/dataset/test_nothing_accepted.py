"""What is told when nothing was accepted; the flags that are named are tried on the gate."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from labeler.quality import judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec
from tests.support.command_line import options_of
from workflows.dataset.nothing_accepted import CandidateTally

DEFAULTS = QualityConfig()


def candidate(place: int, score: float, mask_score: float = 1.0, class_id: int = 0, **values: Any) -> Instance:
    mask = np.zeros((60, 300), np.uint8)
    mask[10:50, 40 * place : 40 * place + 30] = 1
    box = (40.0 * place, 10.0, 40.0 * place + 30, 50.0)
    fields: dict[str, Any] = {"stability": 1.0, "area": 1200, "rle": coco_mask.encode(np.asfortranarray(mask))}
    return Instance(class_id, "x", box, score, mask_score, **fields | values)


def told(
    *images: tuple[Instance, ...],
    config: QualityConfig = DEFAULTS,
    classes: tuple[ClassSpec, ...] = (ClassSpec("dog"), ClassSpec("cat")),
    floor: float = 0.05,
    detector: str = "a/detector",
) -> list[str]:
    tally = CandidateTally(config, classes)
    for items in images:
        record = ImageRecord("a.jpg", 300, 60, "00", instances=items)
        tally.add(record, judge(record, config, classes))
    return tally.lines(floor, detector)


@pytest.mark.parametrize(
    ("config", "own", "scores", "flags"),
    [
        (QualityConfig(), None, [(0.29, 0.98), (0.12, 0.9)], "--accept-score 0.28 --min-score 0.29"),
        (QualityConfig(), None, [(0.36, 0.78), (0.32, 0.8)], "--accept-score 0.28"),
        (QualityConfig(), None, [(0.31, 0.6)], "--accept-score 0.18 --min-joint-score 0.18"),
        (QualityConfig(), None, [(0.123, 0.9)], "--accept-score 0.11 --min-score 0.12 --min-joint-score 0.11"),
        (QualityConfig(), 0.6, [(0.45, 0.9)], '--class-accept-score "dog=0.4"'),
        (QualityConfig(class_accept_scores={"dog": 0.8}), None, [(0.7, 0.9)], '--class-accept-score "dog=0.63"'),
        (QualityConfig("detector", accept_score=0.9), None, [(0.7, 0.9), (0.6, 1.0)], "--accept-score 0.7"),
        (QualityConfig("mask", accept_score=0.9), None, [(0.1, 0.8)], "--accept-score 0.8 --min-score 0.1"),
        # the best candidate is kept out by its mask, whatever its scores: the next one is meant
        (QualityConfig(accept_score=0.9), None, [(0.95, 0.4), (0.7, 0.9)], "--accept-score 0.63"),
        (QualityConfig(min_mask_score=0.9), None, [(0.95, 0.8)], ""),
        (QualityConfig(), None, [(0.0572, 1.0)], "--accept-score 0.057 --min-score 0.057 --min-joint-score 0.057"),
    ],
)  # fmt: skip
def test_the_flags_that_are_named_accept_the_best_candidate(
    config: QualityConfig, own: float | None, scores: list[tuple[float, float]], flags: str
) -> None:
    classes = (ClassSpec("dog", min_score=own), ClassSpec("cat"))
    items = tuple(candidate(place, *each) for place, each in enumerate(scores))
    lines = told(items, config=config, classes=classes, floor=0.057)
    named = [line.split(" would accept")[0] for line in lines if " would accept the best" in line]
    assert named == ([flags] if flags else [])
    if flags:
        given = options_of(["export", "out", *shlex.split(flags)]).dataset.given
        judged = judge(ImageRecord("a.jpg", 300, 60, "00", instances=items), given.of(config), classes)
        assert "accept" in {each.verdict for each in judged}


def test_scores_reason_and_ways_out_are_told() -> None:
    few = tuple(candidate(place, score) for place, score in enumerate((0.1, 0.2, 0.25)))
    lines = told(few, (), (candidate(0, 0.15), candidate(2, 0.9, stability=0.1)), detector="embedded:detector")
    assert lines[0] == (
        "nothing was accepted: of 5 candidates in 3 images, the best has a joint score of 0.90, the median is 0.20; "
        "most common reason: low score (4)"
    )
    assert lines[1].endswith("would accept the best of them, dog with a joint score of 0.25")
    assert "labeler preview" in lines[2]
    assert "knows only the coloured shapes" in lines[3]
    assert len(told(few)) == 3, "other models know more than shapes"


def test_no_candidate_and_no_image() -> None:
    assert "found no candidate in 2 images; with --restart and a --floor below 0.05" in told((), ())[0]
    assert told() == []


def test_a_class_of_which_nothing_was_accepted_is_named() -> None:
    classes = tuple(ClassSpec(name) for name in ("dog", "cat", "owl", "fox", "elk", "ape", "bat", "bee"))
    items = (candidate(0, 0.9), candidate(1, 0.2, class_id=1), candidate(2, 0.25, class_id=2))
    (line,) = told(items, (replace(items[1], score=0.1),), classes=classes)
    assert line == (
        "nothing was accepted of owl (best joint score 0.25 of 1 candidate), cat (best joint score 0.20 of 2 "
        "candidates), fox (no candidate), elk (no candidate), ape (no candidate) and 2 more classes"
    )
    assert told((items[0],), classes=classes[:1]) == []
