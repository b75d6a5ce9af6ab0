"""Fusion by hand, and views of a labeler whose candidates are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from labeler.errors import UsageError
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.models.families import GENERAL, family_of
from labeler.models.kinds.boxes import BoxesKind
from labeler.models.kinds.consensus import ConsensusKind, SecondLabeler
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import innermost
from labeler.models.kinds.kinds import made_kind
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.models.kinds.tiled import TiledKind
from labeler.models.labelers.consensus import ConsensusLabeler
from labeler.models.labelers.fusion import fuse
from labeler.models.labelers.labeler import LabelRequest
from labeler.records import Instance
from ontologies import ClassSpec, Ontology


def instance(box: tuple[float, float, float, float], score: float, mask_score: float = 0.5, **more: Any) -> Instance:
    mask = np.zeros((100, 120), dtype=bool)
    x1, y1, x2, y2 = map(round, box)
    mask[y1:y2, x1:x2] = True
    rle = mask_to_rle(mask)
    given: dict[str, Any] = {"class_id": 0, "prompt": "thing", **more}
    return Instance(
        box_xyxy=box, score=score, mask_score=mask_score, stability=0.9, area=rle_area(rle), rle=rle, **given
    )


def test_boxes_and_scores_by_hand() -> None:
    """The example has the members of two clusters, with the sums of the paper, equations 1 to 5."""
    first = [instance((10, 10, 50, 50), 0.8, prompt="a"), instance((70, 10, 100, 40), 0.3)]
    second = [instance((14, 10, 54, 50), 0.4, mask_score=0.9, prompt="b")]
    third = [instance((12, 10, 52, 54), 0.6, prompt="c"), instance((10, 10, 50, 50), 0.7, class_id=1)]
    fused = fuse([first, second, third])
    assert len(fused) == 3
    by_score = {round(each.score, 6): each for each in fused}
    best = by_score[0.6]  # (0.8 + 0.4 + 0.6) / 3
    x1 = (10 * 0.8 + 14 * 0.4 + 12 * 0.6) / 1.8
    y2 = (50 * 0.8 + 50 * 0.4 + 54 * 0.6) / 1.8
    assert best.box_xyxy == pytest.approx((x1, 10, x1 + 40, y2), abs=1e-4)
    assert best.agreement == 1
    assert (best.prompt, best.rle, best.mask_score) == ("a", first[0].rle, 0.5), "0.8 x 0.5 is the best joint score"
    assert by_score[0.7].class_id == 1
    assert by_score[0.3].agreement == by_score[0.7].agreement == pytest.approx(1 / 3)
    assert by_score[0.3].joint_score == pytest.approx(0.3 * 0.5 / 3)
    assert [each.score for each in fused] == sorted(by_score, reverse=True) == pytest.approx([0.7, 0.6, 0.3])


def test_neighbours_that_one_view_tells_apart_stay_apart() -> None:
    near = [instance((10, 10, 50, 50), 0.9), instance((18, 10, 58, 50), 0.8)]  # an IoU of 0.67
    assert fuse([near]) == near
    fused = fuse([near, [replace(each, score=each.score - 0.1) for each in near]])
    assert [each.agreement for each in fused] == [1, 1]
    assert [each.rle for each in fused] == [each.rle for each in near]
    assert [each.box_xyxy for each in fused] == [each.box_xyxy for each in near]


@dataclass
class Brightest:
    """The box around the pixels that are not black; surer the further left it is."""

    name: str = "thing"

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        return [[self._instance(each.pixels[:, :, 0] > 0)] for each in requests]

    def _instance(self, mask: Any) -> Instance:
        rle = mask_to_rle(mask)
        x1, y1, x2, y2 = rle_box_xyxy(rle)
        box = (x1 - 0.25, y1, x2 + 0.5, y2)
        return Instance(0, self.name, box, 1 - x1 / 1000, 0.5, 0.9, rle_area(rle), rle)


class Blind:
    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        return [[] for _ in requests]


def test_the_mirrored_view_comes_back_in_place() -> None:
    pixels = np.zeros((60, 90, 3), dtype=np.uint8)
    pixels[10:20, 70:85] = 255
    pixels[20:30, 75:77] = 255
    requests = [LabelRequest("a.png", pixels, Ontology((ClassSpec("thing"),)))]
    ((found,),) = ConsensusLabeler((Brightest(),), mirror=True, max_instances=300).label(requests)
    straight, mirrored = 1 - 70 / 1000, 1 - (90 - 85) / 1000
    assert found.rle == mask_to_rle(pixels[:, :, 0] > 0)
    assert found.score == pytest.approx((straight + mirrored) / 2)
    assert found.agreement == 1
    left = (69.75 * straight + 69.5 * mirrored) / (straight + mirrored)
    right = (85.5 * straight + 85.25 * mirrored) / (straight + mirrored)
    assert found.box_xyxy == pytest.approx((left, 10, right, 30), abs=1e-4)


def test_two_labelers_with_two_views_are_four() -> None:
    pixels = np.zeros((60, 90, 3), dtype=np.uint8)
    pixels[10:20, 40:50] = 255
    requests = [LabelRequest("a.png", pixels, Ontology((ClassSpec("thing"),)))] * 2
    found = ConsensusLabeler((Brightest(), Blind()), mirror=True, max_instances=300).label(requests)
    assert [each.agreement for of_image in found for each in of_image] == [0.5, 0.5]
    assert ConsensusLabeler((Brightest(), Blind()), mirror=True, max_instances=0).label(requests) == [[], []]


@dataclass
class OfPrompts:
    """A detector that takes prompts of so many characters, and finds as many boxes."""

    longest: int

    def detect(self, images: Sequence[Any], prompts: Sequence[Any]) -> Any:
        return [self.longest] * len(images)

    def forward_passes(self, prompts: Sequence[str]) -> int:
        if max(map(len, prompts)) > self.longest:
            raise UsageError("too long")
        return self.longest


@dataclass
class WithDetector(Blind):
    detector: Any


def test_prompts_must_suit_every_labeler() -> None:
    labelers = WithDetector(OfPrompts(20)), WithDetector(OfPrompts(5)), Blind()
    detector = ConsensusLabeler(labelers, False, 9).detector
    assert detector
    assert detector.forward_passes(("dog",)) == 20
    assert detector.detect([], []) == []
    with pytest.raises(UsageError, match="too long"):
        detector.forward_passes(("dog", "a long prompt"))
    assert ConsensusLabeler(labelers[2:], True, 9).detector is None
    assert ConsensusLabeler(labelers[1:], True, 9).detector is labelers[1].detector


def test_what_labels_whole_images_only_is_not_wrapped() -> None:
    boxes = BoxesKind("boxes.json", "digest")
    for flag, made in (
        ("--tile", lambda: TiledKind(boxes, 640)),
        ("--views", lambda: ConsensusKind(boxes, mirror=True)),
        ("--also", lambda: ConsensusKind(boxes, SecondLabeler(GroundedSamKind(), "owner/a", "owner/b"))),
    ):
        with pytest.raises(UsageError, match=f"{flag} is not for --boxes"):
            made()
    for size, overlap in ((63, 0.25), (640, 0.9), (640, -0.1)):
        with pytest.raises(UsageError, match="--tile"):
            TiledKind(GroundedSamKind(), size, overlap)


def test_the_family_is_that_of_the_first_labeler() -> None:
    sam3, grounded = Sam3Kind(), GroundedSamKind()
    second = SecondLabeler(sam3, "facebook/sam3", "")
    own = ModelConfig("someone/something", "embedded:segmenter")
    assert family_of(ConsensusKind(TiledKind(grounded, 640), second), own) is GENERAL
    owl = replace(own, detector="google/owlv2-base-patch16")
    assert family_of(ConsensusKind(TiledKind(grounded, 640), second), owl).name == "owlv2"
    assert family_of(TiledKind(sam3, None), own).name == "sam3"
    assert made_kind(TiledKind(sam3, None)) == TiledKind(sam3, None)
    assert innermost(ConsensusKind(TiledKind(sam3, 64), mirror=True)) == sam3


def test_identities_differ_only_in_what_is_around() -> None:
    config = ModelConfig("embedded:detector", "embedded:segmenter")
    inner = GroundedSamKind()
    plain = inner.identity(config)
    tiled = TiledKind(inner, 640)
    assert tiled.identity(config) == {**plain, "tile": 640, "tile_overlap": 0.25}
    assert TiledKind(inner, None, 0.5).identity(config) == {**plain, "tile": "auto", "tile_overlap": 0.5}
    also = SecondLabeler(tiled, "owner/detector", "owner/segmenter")
    both = ConsensusKind(tiled, also, mirror=True)
    second = {**tiled.identity(config), "detector": "owner/detector", "segmenter": "owner/segmenter"}
    assert both.identity(config) == {**tiled.identity(config), "views": "mirror", "also": second}
    assert [(each.source, each.role) for each in both.models(config)] == [
        ("embedded:detector", "detector"), ("embedded:segmenter", "segmenter"),
        ("owner/detector", "also"), ("owner/segmenter", "also"),
    ]  # fmt: skip
