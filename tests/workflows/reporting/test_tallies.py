"""What a report samples, against a plain re-implementation."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
import pytest

from labeler.geometry.masks import mask_to_rle
from labeler.quality import Judgement
from labeler.records import ImageRecord, Instance
from workflows.drawing.thumbnails import Sample
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
