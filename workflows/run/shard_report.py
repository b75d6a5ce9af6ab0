"""Figures of the work on shards."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from labeler.models.compiling import Gain

STAGES = ("decode", "wait", "tag", "model", "write")


@dataclass
class ShardReport:
    """Figures for one shard, or the sums for several.

    Attributes:
        seconds: per stage; ``decode`` is the sum over threads, ``wait`` the time the models waited for images.
        splits: batches that failed and were halved.
        untagged: images that were labeled although the tagger failed on them.
        unparsed: answers of a language model from which no tag could be read.
        forward_passes, ungated: forward passes of a detector behind a tag gate, and how many it would need without one.
        began: when the models got the first images, in seconds since 1970.
        scaled: images of more than 8 bits per channel, by what they were scaled from.
        kept_deep: of these, images whose own files the dataset has, which trainers read otherwise or not at all.
        longest_side: of the largest image that was read, in pixels.
        further_frames, with_frames: pages or frames that were not read, and the number of files that have them.
        first_image: when the models were done with the first images, in seconds since 1970.
        largest_batch: the most images that the models took at a time, if the batch size was searched for.
        compiled: what ``--compile`` gained, by model; of one worker.
        workers: images per worker, for an engine with several.
    """

    images: int = 0
    objects: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    splits: int = 0
    untagged: int = 0
    unparsed: int = 0
    forward_passes: int = 0
    ungated: int = 0
    began: float = math.inf
    scaled: Counter[str] = field(default_factory=Counter)
    kept_deep: int = 0
    longest_side: int = 0
    further_frames: int = 0
    with_frames: int = 0
    first_image: float = math.inf
    largest_batch: int = 0
    compiled: dict[str, Gain] = field(default_factory=dict)
    workers: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, other: ShardReport) -> None:
        self.images += other.images
        self.objects += other.objects
        self.failures += other.failures
        self.splits += other.splits
        self.untagged += other.untagged
        self.unparsed += other.unparsed
        self.forward_passes += other.forward_passes
        self.ungated += other.ungated
        self.began = min(self.began, other.began)
        self.scaled.update(other.scaled)
        self.kept_deep += other.kept_deep
        self.longest_side = max(self.longest_side, other.longest_side)
        self.further_frames += other.further_frames
        self.with_frames += other.with_frames
        self.first_image = min(self.first_image, other.first_image)
        self.largest_batch = max(self.largest_batch, other.largest_batch)
        self.compiled |= other.compiled
        self.workers.update(other.workers)
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds
