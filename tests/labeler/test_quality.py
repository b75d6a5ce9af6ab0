"""The gate against masks whose overlaps are known by hand, and against a second implementation on dense masks."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from labeler.errors import UsageError
from labeler.quality import Judgement, effective_thresholds, judge, without_repeats
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec

OFF = QualityConfig(**dict.fromkeys(QualityConfig().to_dict().keys() - {"score", "class_accept_scores"}, 0))
HEIGHT, WIDTH = 100, 200


def encode(mask: np.ndarray) -> Any:
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def instance(x: int = 10, y: int = 10, w: int = 20, h: int = 20, **values: Any) -> Instance:
    """A filled rectangle, w × h pixels from column x and row y, with a box that fits; both models are sure."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y : y + h, x : x + w] = True
    fields: dict[str, Any] = {"class_id": 0, "prompt": "thing", "box_xyxy": (x, y, x + w, y + h)}
    fields |= {"score": 0.9, "mask_score": 0.9, "stability": 0.95, "area": w * h, "rle": encode(mask)}
    return Instance(**fields | values)


def record(*instances: Instance) -> ImageRecord:
    return ImageRecord("a.jpg", WIDTH, HEIGHT, "00", instances=instances)


def outcome(config: QualityConfig, *instances: Instance, min_scores: tuple[float | None, ...] = (None, None)) -> list:
    judged = judge(
        record(*instances), config, [ClassSpec(f"class {n}", min_score=own) for n, own in enumerate(min_scores)]
    )
    return [item.reason if item.verdict == "reject" else item.verdict for item in judged]


def test_nothing_to_judge() -> None:
    assert judge(record(), QualityConfig(), [ClassSpec("thing")]) == []
    assert judge(ImageRecord("a.jpg", 0, 0, "", "error", "the file is empty"), QualityConfig(), []) == []


def test_a_good_instance_is_accepted_without_a_reason() -> None:
    assert judge(record(instance()), QualityConfig(), [ClassSpec("thing")]) == [Judgement("accept", "")]


@pytest.mark.parametrize(
    ("setting", "failing", "passing", "reason"),
    [
        ({"min_score": 0.5}, instance(score=0.49), instance(score=0.5), "low score"),
        # 0.5 x 0.5 = 0.25, exact in binary
        ({"min_joint_score": 0.25}, instance(score=0.5, mask_score=0.499), instance(score=0.5, mask_score=0.5), None),
        ({"min_mask_score": 0.5}, instance(mask_score=0.49), instance(mask_score=0.5), "low mask score"),
        ({"min_stability": 0.75}, instance(stability=0.74), instance(stability=0.75), "unstable"),
        ({"min_agreement": 0.5}, instance(agreement=0.25), instance(agreement=0.5), "low agreement"),
        ({"min_area": 16}, instance(w=5, h=3), instance(w=4, h=4), "too small"),
        # the image has 20000 pixels
        ({"max_area_share": 0.5}, instance(0, 0, 101, 100), instance(0, 0, 100, 100), "too large"),
        # a box twice as wide as the mask: IoU 1/2; three times: 1/3
        (
            {"min_box_iou": 0.5},
            instance(10, 10, 20, 20, box_xyxy=(10, 10, 70, 30)),
            instance(10, 10, 20, 20, box_xyxy=(10, 10, 50, 30)),
            "box and mask disagree",
        ),
        ({"min_box_iou": 0.1}, instance(box_xyxy=(100, 50, 120, 70)), instance(), "box and mask disagree"),
        # a box of no area
        ({"min_box_iou": 0.1}, instance(box_xyxy=(10, 10, 10, 10)), instance(), "box and mask disagree"),
    ],
)
def test_filters_on_one_instance(setting: dict, failing: Instance, passing: Instance, reason: str | None) -> None:
    config = replace(OFF, **setting)
    assert outcome(config, failing) == [reason or "low joint score"]
    assert outcome(config, passing) == ["accept"]
    assert outcome(OFF, failing) == ["accept"], "0 switches the filter off"


@pytest.mark.parametrize(
    ("setting", "worse", "reason"),
    [
        # against a 20 x 20 mask at (10, 10): columns 12..29 of it, 18 / 20 = 0.9
        ({"duplicate_iou": 0.9}, instance(12, 10, 18, 20, score=0.8), "duplicate"),
        ({"duplicate_iou": 0.91}, instance(12, 10, 18, 20, score=0.8), "accept"),
        ({"duplicate_iou": 0.9}, instance(12, 10, 18, 20, score=0.8, class_id=1), "accept"),
        ({"cross_class_iou": 0.9}, instance(12, 10, 18, 20, score=0.8, class_id=1), "duplicate of another class"),
        ({"cross_class_iou": 0.91}, instance(12, 10, 18, 20, score=0.8, class_id=1), "accept"),
        ({"cross_class_iou": 0.9}, instance(12, 10, 18, 20, score=0.8), "accept"),
        # 20 wide from column 20: shares 10 x 20 of 400, so IoU 200 / 600 and containment 1/2
        ({"duplicate_iou": 1 / 3}, instance(20, 10, 20, 20, score=0.8), "duplicate"),
        ({"duplicate_iou": 0.34}, instance(20, 10, 20, 20, score=0.8), "accept"),
        ({"contained_share": 0.5}, instance(20, 10, 20, 20, score=0.8), "contained"),
        ({"contained_share": 0.51}, instance(20, 10, 20, 20, score=0.8), "accept"),
        ({"contained_share": 1.0}, instance(15, 15, 5, 5, score=0.8), "contained"),
        ({"contained_share": 1.0}, instance(15, 15, 5, 5, score=0.8, class_id=1), "accept"),
        # the larger one is not contained, though the better one lies in it
        ({"contained_share": 0.95}, instance(5, 5, 50, 50, score=0.8), "accept"),
        # masks that touch share nothing
        ({"duplicate_iou": 0.01, "contained_share": 0.01}, instance(30, 10, 20, 20, score=0.8), "accept"),
        # 55 of 100 pixels: 0.55 * 100 is more than 55 in floating point
        ({"contained_share": 0.55}, instance(19, 10, 20, 5, score=0.8), "contained"),
    ],
)
def test_filters_on_two_instances(setting: dict, worse: Instance, reason: str) -> None:
    config, best = replace(OFF, **setting), instance()
    assert outcome(config, best, worse) == ["accept", reason]
    assert outcome(config, worse, best) == [reason, "accept"], "rank decides, not position"
    assert outcome(OFF, best, worse) == ["accept", "accept"], "0 switches the filter off"


def test_boxes_that_overlap_are_no_duplicates_when_their_masks_are_apart() -> None:
    stripes = np.zeros((HEIGHT, WIDTH), bool)
    stripes[10:30:2, 10:30] = True
    others = np.zeros((HEIGHT, WIDTH), bool)
    others[11:31:2, 10:30] = True
    items = [instance(area=200, rle=encode(mask)) for mask in (stripes, others)]
    assert outcome(replace(OFF, duplicate_iou=0.01, contained_share=0.01), *items) == ["accept", "accept"]


def test_equal_instances_keep_the_first() -> None:
    assert outcome(QualityConfig(), instance(), instance(), instance()) == ["accept", "duplicate", "duplicate"]


def test_ranking_is_by_joint_score() -> None:
    found, outlined = instance(score=0.9, mask_score=0.5), instance(score=0.6, mask_score=0.9)
    assert outcome(QualityConfig(), found, outlined) == ["duplicate", "accept"]


def test_a_rejected_instance_drops_no_other() -> None:
    shaky = instance(score=0.99, mask_score=0.99, stability=0.1)
    assert outcome(QualityConfig(), shaky, instance()) == ["unstable", "accept"]
    # b duplicates a, c duplicates b but not a: 20 wide masks, each 6 columns on: IoU 14/26 = 0.54, a and c 8/32
    chain = [instance(10, score=0.9), instance(16, score=0.8), instance(22, score=0.7)]
    assert outcome(replace(OFF, duplicate_iou=0.5), *chain) == ["accept", "duplicate", "accept"]


def test_an_empty_mask_is_rejected_whatever_the_settings() -> None:
    assert outcome(OFF, instance(w=0, h=0), instance(w=0, h=0)) == ["empty mask", "empty mask"]


def test_the_first_failing_filter_gives_the_reason() -> None:
    bad = instance(score=0.01, mask_score=0.01, stability=0.01, w=1, h=1)
    assert outcome(QualityConfig(), bad) == ["low score"]


@pytest.mark.parametrize(
    ("score", "mask_score", "own", "verdict"),
    [
        # defaults: detector score 0.30, joint score 0.20, accepted from 0.30
        (0.299, 1.0, None, "low score"),
        (0.301, 1.0, None, "accept"),
        (0.32, 0.6, None, "low joint score"),  # 0.192
        (0.32, 0.8, None, "review"),  # 0.256
        (0.32, 0.95, None, "accept"),  # 0.304
        # the class's own minimum replaces that of the detector score, and no other
        (0.499, 1.0, 0.5, "low score"),
        (0.501, 1.0, 0.5, "accept"),
        (0.55, 0.55, 0.5, "accept"),  # 0.3025
        (0.149, 1.0, 0.15, "low score"),
        (0.151, 1.0, 0.15, "low joint score"),
        (0.25, 0.9, 0.15, "review"),  # 0.225
        (0.301, 1.0, 0.0, "accept"),
    ],
)
def test_minimum_and_accept_scores(score: float, mask_score: float, own: float | None, verdict: str) -> None:
    assert outcome(QualityConfig(), instance(score=score, mask_score=mask_score), min_scores=(own,)) == [verdict]


@pytest.mark.parametrize(
    ("accept_score", "score", "mask_score", "verdict"),
    [
        (0.45, 0.5, 0.8, "review"),  # 0.4
        (0.45, 0.6, 0.8, "accept"),  # 0.48
        (0.45, 0.29, 1.0, "low score"),
        (0.45, 0.31, 0.6, "low joint score"),  # 0.186
        # minimum scores above the accept score are lowered to it
        (0.25, 0.24, 1.0, "low score"),
        (0.25, 0.26, 0.9, "review"),  # 0.234
        (0.25, 0.26, 1.0, "accept"),
        (0.15, 0.14, 1.0, "low score"),
        (0.15, 0.16, 0.8, "low joint score"),  # 0.128
        (0.15, 0.16, 1.0, "accept"),
        (0.0, 0.01, 1.0, "accept"),
    ],
)
@pytest.mark.parametrize("own", [None, 0.1, 0.7])
def test_a_class_with_its_own_accept_score(
    accept_score: float, score: float, mask_score: float, verdict: str, own: float | None
) -> None:
    """Whatever ``min_score`` the ontology gives it."""
    config = QualityConfig(class_accept_scores={"class 0": accept_score, "another": 0.9})
    assert outcome(config, instance(score=score, mask_score=mask_score), min_scores=(own,)) == [verdict]


def test_review_has_a_reason_and_can_be_switched_off() -> None:
    unsure = record(instance(score=0.32, mask_score=0.8))
    assert judge(unsure, QualityConfig(), [ClassSpec("thing")]) == [Judgement("review", "uncertain")]
    assert judge(unsure, QualityConfig(accept_score=0), [ClassSpec("thing")]) == [Judgement("accept")]


def test_an_unknown_class_is_named() -> None:
    with pytest.raises(UsageError, match=r"a\.jpg: class id 2 is not among the ontology's 2 classes"):
        outcome(OFF, instance(class_id=2))


@pytest.mark.parametrize(
    ("score", "verdicts", "best"), [("joint", ["review", "accept"], 1), ("detector", ["accept", "review"], 0)]
)
def test_another_score_ranks_and_accepts(score: Any, verdicts: list[str], best: int) -> None:
    """Detector 0.9 × mask 0.5 against 0.6 × 0.9; the mask score is that of the second, too."""
    apart = [instance(score=0.9, mask_score=0.5), instance(x=100, score=0.6, mask_score=0.9)]
    config = QualityConfig(score=score, accept_score=0.5 if score == "joint" else 0.7)
    assert outcome(config, *apart) == verdicts
    together = [instance(score=0.9, mask_score=0.5), instance(score=0.6, mask_score=0.9)]
    survivor = ["duplicate", "duplicate"]
    survivor[best] = "accept"
    assert outcome(QualityConfig(score=score), *together) == survivor


def test_the_mask_score_may_rank() -> None:
    config = QualityConfig(score="mask", min_joint_score=0.6, accept_score=0.8)
    scored = [instance(x=x, score=0.4, mask_score=score) for x, score in ((0, 0.9), (50, 0.7), (100, 0.55))]
    assert outcome(config, *scored) == ["accept", "review", "low ranking score"]


def brute_force(instances: list[Instance], masks: np.ndarray, config: QualityConfig) -> list[str]:
    """Duplicates, then duplicates of another class, then containment, on dense masks and in plain loops."""
    reasons = ["accept"] * len(instances)
    steps = [("duplicate", config.duplicate_iou), ("duplicate of another class", config.cross_class_iou)]
    for name, threshold in [*steps, ("contained", config.contained_share)]:
        left = [i for i, reason in enumerate(reasons) if reason == "accept"]
        survivors: list[int] = []
        for i in sorted(left, key=lambda i: (-instances[i].score * instances[i].mask_score, i)):
            for j in survivors:
                same = instances[i].class_id == instances[j].class_id
                if same == (name == "duplicate of another class"):
                    continue
                shared = (masks[i] & masks[j]).sum()
                base = masks[i].sum() if name == "contained" else (masks[i] | masks[j]).sum()
                if shared / base >= threshold:
                    reasons[i] = name
                    break
            else:
                survivors.append(i)
    return reasons


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_brute_force_on_random_masks(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    instances, masks = [], []
    for _ in range(60):
        # ellipses in a few clusters, with noise at their edge, so that all kinds of overlap come up
        y, x = random.choice([25, 50, 75]) + random.normal(0, 2), random.choice([40, 100, 160]) + random.normal(0, 2)
        a, b = random.choice([8, 16, 20]) + random.normal(0, 0.5, 2)
        mask = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < random.normal(1, 0.02, (HEIGHT, WIDTH))
        masks.append(mask)
        score, class_id = float(random.choice([0.5, 0.6, 0.7])), int(random.integers(2))
        instances.append(instance(score=score, class_id=class_id, area=int(mask.sum()), rle=encode(mask)))
    config = replace(OFF, duplicate_iou=0.7, cross_class_iou=0.75, contained_share=0.8)
    expected = brute_force(instances, np.array(masks), config)
    assert set(expected) == {"accept", "duplicate", "duplicate of another class", "contained"}
    assert outcome(config, *instances) == expected


def test_python_does_not_visit_every_pair() -> None:
    """300 instances have 44,850 pairs; the calls of functions are counted, which no busy machine changes."""
    random = np.random.default_rng(0)
    crowd = [instance(*random.integers(0, 60, 2).tolist(), 30, 30, score=float(s)) for s in random.uniform(0.5, 1, 300)]
    calls = Counter[str]()
    sys.setprofile(lambda frame, event, argument: calls.update([event]))
    try:
        judge(
            record(*crowd),
            replace(OFF, duplicate_iou=0.8, cross_class_iou=0.9, contained_share=0.95),
            [ClassSpec("thing")],
        )
    finally:
        sys.setprofile(None)
    assert calls["call"] + calls["c_call"] < 40_000


def test_config_round_trip() -> None:
    config = QualityConfig(min_score=0.4, min_area=64)
    assert QualityConfig.from_dict(config.to_dict()) == config
    assert QualityConfig.from_dict({"min_score": 0.4, "min_area": 64}) == config
    assert QualityConfig.from_dict({}) == QualityConfig()
    own = QualityConfig(score="mask", class_accept_scores={"dog": 0.4})
    assert QualityConfig.from_dict(own.to_dict()) == own


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_score": 1.5}, "--min-score must be a number from 0 to 1, not 1.5"),
        ({"accept_score": 10**400}, "--accept-score must be a number from 0 to 1, not 1000"),
        ({"min_area": 10**400}, "--min-area must be a whole number, 0 or more, not 1000"),
        (
            {"class_accept_scores": {"dog": -(10**400)}},
            "--class-accept-score of 'dog' must be a number from 0 to 1",
        ),
        ({"accept_score": -0.1}, "--accept-score must be a number from 0 to 1, not -0.1"),
        ({"min_stability": float("nan")}, "--min-stability must be a number from 0 to 1, not nan"),
        ({"duplicate_iou": "0.5"}, "--duplicate-iou must be a number from 0 to 1, not '0.5'"),
        ({"contained_share": None}, "--contained-share must be a number from 0 to 1, not None"),
        ({"min_mask_score": True}, "--min-mask-score must be a number from 0 to 1, not True"),
        ({"min_area": -1}, "--min-area must be a whole number, 0 or more, not -1"),
        ({"min_area": 1.5}, "--min-area must be a whole number, 0 or more, not 1.5"),
        ({"min_area": "9"}, "--min-area must be a whole number, 0 or more, not '9'"),
        ({"min_scor": 0.5}, "quality: unknown setting 'min_scor'; known are score, min_score, "),
        ({"score": "both"}, "--score must be one of joint, detector, mask, not 'both'"),
        (
            {"class_accept_scores": {"dog": {"accept_score": 0.5}}},
            "--class-accept-score of 'dog' must be a number from 0 to 1",
        ),
        ({"class_accept_scores": 3}, "--class-accept-score must be a number from 0 to 1, not None"),
        ({"of_classes": {}}, "quality: unknown setting 'of_classes'; known are score, min_score, "),
    ],
)
def test_config_says_what_is_wrong(values: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        QualityConfig.from_dict(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [QualityConfig(accept_score=0.4), QualityConfig(min_score=0.6, accept_score=0.4)])
def test_without_repeats_the_same_thresholds_apply(config: QualityConfig) -> None:
    specs = [ClassSpec("a"), ClassSpec("b", min_score=0.2), ClassSpec("c", min_score=0.9)]
    for scores in itertools.product((None, 0.0, 0.4, 0.7), repeat=3):
        own = {spec.name: score for spec, score in zip(specs, scores, strict=True) if score is not None}
        whole = replace(config, class_accept_scores=own)
        lean = without_repeats(whole, specs)
        for spec in specs:
            assert effective_thresholds(lean, spec) == effective_thresholds(whole, spec)
        # Where a minimum score would be another without it, even an accept score equal to the common one stays.
        gone = {"a"} if own.get("a") == 0.4 and config.min_score <= 0.4 else set()
        assert own.keys() - lean.class_accept_scores.keys() == gone
