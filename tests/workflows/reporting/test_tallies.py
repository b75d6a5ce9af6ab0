"""Sampling and pictures of a report, against plain re-implementations."""

from __future__ import annotations

import base64
import io
import random
import re
from collections import defaultdict

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image

from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.quality import Judgement
from labeler.records import ImageRecord, Instance
from workflows.drawing.figures import Histogram
from workflows.drawing.thumbnails import SIDE, Sample, crop_around, picture
from workflows.reporting.tallies import Sampler, key_of

RLE = mask_to_rle(np.ones((2, 2), np.bool_))


def a_sample(number: int, class_id: int, verdict: str) -> Sample:
    record = ImageRecord(f"{number}.jpg", 2, 2, f"digest {number}")
    instance = Instance(class_id, "thing", (0, 0, 2, 2), 0.5, 0.5, 0.5, 4, RLE)
    return Sample(record, instance, Judgement(verdict))  # type: ignore[arg-type]


@pytest.mark.parametrize(("each", "total"), [(3, 1000), (1000, 50), (24, 60), (5, 4), (1, 1)])
def test_the_sample_is_that_of_sorting_everything_in_whatever_order_it_comes(each: int, total: int) -> None:
    rng = random.Random(each)
    everything = [
        a_sample(number, min(int(rng.expovariate(0.5)), 9), rng.choice(["accept", "review", "reject", "reject"]))
        for number in range(3000)
    ]
    strata: dict[tuple[int, str], list[tuple[int, Sample]]] = defaultdict(list)
    for sample in everything:
        assert sample.instance is not None
        assert sample.judgement is not None
        stratum = sample.instance.class_id, sample.judgement.verdict
        strata[stratum].append((key_of(7, sample.record, 0), sample))
    ranked = [
        (rank, key, sample.record.image_id)
        for members in strata.values()
        for rank, (key, sample) in enumerate(sorted(members, key=lambda member: member[0])[:each])
    ]
    wanted = [image_id for _, _, image_id in sorted(ranked)[:total]]
    for _ in range(2):
        sampler = Sampler(each, total, seed=7)
        for sample in everything:
            sampler.add(sample, 0)
        assert [sample.record.image_id for sample in sampler.samples()] == wanted
        rng.shuffle(everything)


def test_every_class_and_verdict_is_in_a_small_sample() -> None:
    sampler = Sampler(24, 30, seed=0)
    for number in range(5000):
        sampler.add(a_sample(number, 0, "reject"), 0)
    for number in range(5000, 5003):
        sampler.add(a_sample(number, 1, "review"), 0)
    of_class = [sample.instance.class_id for sample in sampler.samples() if sample.instance]
    assert (of_class.count(0), of_class.count(1)) == (24, 3)


def test_a_sample_is_uniform() -> None:
    """Each of 20 instances is among the 5 shown for about a quarter of 2,000 seeds; 6 standard errors are allowed."""
    counts = np.zeros(20)
    for seed in range(2000):
        sampler = Sampler(5, 1000, seed)
        for number in range(20):
            sampler.add(a_sample(number, 0, "accept"), 0)
        for sample in sampler.samples():
            counts[int(sample.record.image_id.split(".")[0])] += 1
    assert np.abs(counts / 2000 - 0.25).max() < 6 * np.sqrt(0.25 * 0.75 / 2000)


def test_histograms_count_as_numpy_does_and_lose_nothing_outside() -> None:
    histogram = Histogram((0.0, 0.25, 0.5, 1.0))
    values = np.random.default_rng(1).uniform(-0.5, 1.5, 500)
    for value in [*values, 0.25, 1.0, 0.0]:
        histogram.add(float(value), "review")
    expected, _ = np.histogram(np.clip([*values, 0.25, 1.0, 0.0], 0, 1), [0.0, 0.25, 0.5, 1.0])
    assert histogram.counts.tolist() == [[0, 0, 0], expected.tolist(), [0, 0, 0]]


def ring(side: int) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    radius = np.hypot(rows - 0.4 * side, columns - 0.6 * side)
    return (radius < 0.25 * side) & (radius > 0.12 * side)


@pytest.mark.parametrize("side", [60, 300, 2000])
def test_a_picture_shows_the_mask_where_it_is(side: int) -> None:
    """The outline, filled by even-odd rule, is the mask of the crop: what it covers is the white ring in the pixels."""
    mask = ring(side)
    pixels = np.where(mask[..., None], 255, 0).repeat(3, axis=2).astype(np.uint8)
    rle = mask_to_rle(mask)
    instance = Instance(0, "ring", rle_box_xyxy(rle), 0.9, 0.9, 0.9, rle_area(rle), rle)
    shown = picture(pixels, Sample(ImageRecord("ring.png", side, side, ""), instance, Judgement("accept")))
    assert max(shown.width, shown.height) <= SIDE
    data = base64.b64decode(shown.uri.removeprefix("data:image/webp;base64,"))
    drawn = np.asarray(Image.open(io.BytesIO(data)).convert("L")) > 127
    assert drawn.shape == (shown.height, shown.width)
    rows, columns = np.mgrid[: shown.height, : shown.width]
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    inside = np.zeros(drawn.shape, np.bool_)
    rings = re.findall(r"M([^Z]+)Z", shown.path)
    assert len(rings) == 2
    for points in rings:
        polygon = np.array([[float(number) for number in point.split()] for point in points.split("L")])
        inside ^= Outline(polygon).contains_points(centres).reshape(drawn.shape)
    assert (inside & drawn).sum() / (inside | drawn).sum() > 0.93
    assert shown.box_xyxy is not None
    found_rows, found_columns = np.nonzero(drawn)
    box = (found_columns.min(), found_rows.min(), found_columns.max() + 1, found_rows.max() + 1)
    assert np.abs(np.array(box) - shown.box_xyxy).max() < 2.5


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        ([(100, 100, 200, 140)], (75, 45, 225, 195)),  # 1.5 times the longer side, around the middle
        ([(0, 0, 100, 100)], (0, 0, 150, 150)),  # moved into the image
        ([(390, 290, 400, 300)], (352, 252, 400, 300)),  # no smaller than can be made out
        ([(0, 0, 400, 300)], (0, 0, 400, 300)),  # no larger than the image
        ([(0, 0, 0, 0)], (0, 0, 400, 300)),  # an empty mask: the whole image
        ([(0, 0, 0, 0), (100, 100, 200, 140)], (75, 45, 225, 195)),
    ],
)
def test_crops(boxes: list[tuple[float, float, float, float]], expected: tuple[int, int, int, int]) -> None:
    assert crop_around(boxes, 400, 300) == expected
