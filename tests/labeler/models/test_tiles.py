"""Tiles around a labeler that finds what can be checked by hand: regions of one grey value in what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest

from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.geometry.tiles import Box
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.labelers.tile_merging import Part, merge_parts
from labeler.models.labelers.tiled import TiledLabeler, automatic_size
from labeler.records import Instance
from ontologies import ClassSpec, Ontology

THINGS = Ontology((ClassSpec("thing"), ClassSpec("other")))


@dataclass
class Regions:
    """One instance for each connected region of one grey value; odd values are of the second class.

    Attributes:
        longest: it finds nothing in larger images, as a model that scales them down.
        most: images that fit into memory.
        asked: how many images each call had.
    """

    longest: int = 10_000
    most: int = 100
    asked: list[int] = field(default_factory=list)

    def label(self, requests: Sequence[LabelRequest]) -> list[list[Instance]]:
        self.asked.append(len(requests))
        if len(requests) > self.most:
            raise RuntimeError("out of memory")
        return [self._regions(request.pixels[:, :, 0]) for request in requests]

    def _regions(self, grey: Any) -> list[Instance]:
        found = []
        for value in np.unique(grey[grey > 0]) if max(grey.shape) <= self.longest else ():
            count, labels = cv2.connectedComponents((grey == value).astype(np.uint8))
            found += [instance(labels == each, class_id=int(value) % 2) for each in range(1, count)]
        return found


def instance(mask: Any, class_id: int = 0, score: float | None = None, prompt: str = "thing") -> Instance:
    """The more of an object is seen, the higher its score."""
    rle = mask_to_rle(np.asarray(mask, dtype=bool))
    area = rle_area(rle)
    sure = min(0.5 + area / 1e5, 0.9) if score is None else score
    return Instance(class_id, prompt, rle_box_xyxy(rle), sure, 0.8, 0.9, area, rle)


def tiled(inner: Regions, size: int | None = 100, overlap: float = 0.25, most: int = 300) -> TiledLabeler:
    return TiledLabeler(inner, size, overlap, batch_size=4, max_instances=most)


def request(grey: Any) -> LabelRequest:
    return LabelRequest("a.png", np.repeat(grey[:, :, None], 3, axis=2), THINGS)


def found_in(grey: Any, **settings: Any) -> list[Instance]:
    return tiled(Regions(longest=100), **settings).label([request(grey)])[0]


def rectangle(shape: tuple[int, int], x1: int, y1: int, x2: int, y2: int) -> Any:
    mask = np.zeros(shape, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


@pytest.mark.parametrize("overlap", [0, 0.1, 0.25, 0.5])
def test_objects_come_back_as_they_are_wherever_borders_cut_them(overlap: float) -> None:
    grey = np.zeros((230, 260), dtype=np.uint8)
    boxes = [(5, 5, 30, 20), (70, 60, 130, 75), (90, 90, 110, 190), (140, 20, 255, 60), (150, 100, 240, 210)]
    for value, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        grey[y1:y2, x1:x2] = value
    cv2.circle(grey, (60, 150), 25, 9, cv2.FILLED)
    found = found_in(grey, overlap=overlap)
    assert len(found) == 6
    for each in found:
        mask = rle_to_mask(each.rle)
        (value,) = np.unique(grey[mask])
        assert (mask == (grey == value)).all()
        assert each.class_id == value % 2
        assert each.box_xyxy == rle_box_xyxy(each.rle)
        assert each.area == mask.sum()
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


@pytest.mark.parametrize("meets_at", [80, 85, 90, 95])
def test_two_objects_of_one_class_that_touch_stay_two(meets_at: int) -> None:
    """The border of a tile cuts one of them, or both, at the places that are tried; the tiles are 0-100 and 70-170."""
    grey = np.zeros((100, 170), dtype=np.uint8)
    grey[30:60, meets_at - 60 : meets_at] = 2
    grey[30:60, meets_at : meets_at + 60] = 4
    found = found_in(grey)
    assert {rle_box_xyxy(each.rle) for each in found} == {
        (meets_at - 60, 30, meets_at, 60), (meets_at, 30, meets_at + 60, 60)
    }  # fmt: skip


def test_an_object_that_one_tile_shows_whole_is_that_of_the_tile() -> None:
    shape, left, right = (100, 175), (0, 0, 100, 100), (75, 0, 175, 100)
    whole, piece = rectangle(shape, 80, 20, 110, 40), rectangle(shape, 80, 20, 100, 41)
    parts = [part(instance(piece, score=0.9, prompt="piece"), left), part(instance(whole, score=0.6), right)]
    assert [each.is_cut for each in parts] == [True, False]
    assert merge_parts(parts) == [parts[1].instance]


def part(found: Instance, tile: Box) -> Part:
    height, width = found.rle["size"]
    return Part.of(found, tile, width, height)


def test_scores_of_a_joined_object() -> None:
    shape, left, right = (100, 175), (0, 0, 100, 100), (75, 0, 175, 100)
    one = instance(rectangle(shape, 40, 20, 100, 40), score=0.6, prompt="big thing")
    other = Instance(
        0, "thing", (75, 19, 150, 40), 0.5, 0.4, 0.5, 75 * 20, instance(rectangle(shape, 75, 20, 150, 40)).rle
    )
    (joined,) = merge_parts([part(other, right), part(one, left)])
    assert (joined.score, joined.prompt, joined.box_xyxy) == (0.6, "big thing", (40, 19, 150, 40))
    assert rle_box_xyxy(joined.rle) == (40, 20, 150, 40)
    assert joined.area == 110 * 20
    assert joined.mask_score == pytest.approx((0.8 * 60 + 0.4 * 75) / 135)
    assert joined.stability == pytest.approx((0.9 * 60 + 0.5 * 75) / 135)


def test_a_mask_over_a_group_neither_swallows_its_members_nor_glues_them() -> None:
    shape, left, right = (100, 175), (0, 0, 100, 100), (75, 0, 175, 100)
    group = instance(rectangle(shape, 60, 20, 120, 40), score=0.55)
    one, other = instance(rectangle(shape, 60, 20, 90, 40)), instance(rectangle(shape, 90, 20, 120, 40))
    assert one.score < group.score
    cut = instance(rectangle(shape, 90, 20, 100, 40))
    parts = [part(one, left), part(cut, left), part(other, right), part(group, (0, 0, 175, 100))]
    assert {each.rle["counts"] for each in merge_parts(parts)} == {each.rle["counts"] for each in (one, other, group)}


def test_what_one_tile_tells_apart_and_other_classes_stay() -> None:
    shape = (100, 175)
    mask = rectangle(shape, 20, 20, 60, 60)
    same_tile = [part(instance(mask, score=score), (0, 0, 100, 100)) for score in (0.9, 0.5)]
    assert len(merge_parts(same_tile)) == 2, "the gate decides on duplicates, as without tiles"
    classes = [part(instance(mask, class_id), (0, 0, 100 + class_id, 100)) for class_id in (0, 1)]
    assert len(merge_parts(classes)) == 2
    assert merge_parts([part(instance(np.zeros(shape)), (0, 0, 100, 100))]) == []


def test_an_image_is_labeled_the_same_in_any_batch_and_few_tiles_at_a_time() -> None:
    rng = np.random.default_rng(3)
    images = []
    for height, width in ((90, 100), (230, 180), (110, 300)):
        grey = np.zeros((height, width), dtype=np.uint8)
        for value in range(1, 9):
            x, y = rng.integers(0, (width - 20, height - 20))
            grey[y : y + int(rng.integers(5, 60)), x : x + int(rng.integers(5, 60))] = value
        images.append(request(grey))
    inner = Regions()
    together = tiled(inner).label(images)
    assert together == [tiled(Regions()).label([each])[0] for each in images]
    assert inner.asked[0] == 3
    assert max(inner.asked[1:]) <= 4
    assert together[0] == Regions().label(images[:1])[0], "no larger than a tile: labeled whole only"
    assert [each[:2] for each in together[1:]] == tiled(Regions(), most=2).label(images[1:])


def test_fewer_tiles_at_a_time_where_memory_is_short() -> None:
    grey = np.zeros((230, 260), dtype=np.uint8)
    grey[20:60, 40:180] = 2
    inner = Regions(most=1)
    assert tiled(inner).label([request(grey)]) == tiled(Regions()).label([request(grey)])
    assert inner.asked[:4] == [1, 4, 2, 1]
    with pytest.raises(RuntimeError, match="out of memory"):
        tiled(Regions(most=0)).label([request(grey)])


def test_too_many_tiles_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2000 x 2000 pixels need \d+ tiles of 64, more than 10000; give a larger"):
        tiled(Regions(), size=64, overlap=0.89).label([request(np.zeros((2000, 2000), dtype=np.uint8))])


@pytest.mark.parametrize(
    ("sides", "length", "size"),
    [
        ([40, 40, 300, 900], 1000, 320),
        ([40, 40, 300, 900], 470, None),  # hardly longer than a tile
        ([80, 100, 300, 900], 2000, 1280),
        ([81, 100, 300, 900], 1900, None),
        ([500], 6000, None),
        ([], 1000, 640),
        ([], 900, None),
    ],
)
def test_the_automatic_size_depends_on_the_image_and_its_small_objects(
    sides: list[int], length: int, size: int | None
) -> None:
    whole = [instance(np.ones((side, side))) for side in sides]
    assert automatic_size(length, 10, whole) == automatic_size(10, length, whole) == size
