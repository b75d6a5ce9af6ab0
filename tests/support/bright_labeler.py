"""The whole job with a labeler that needs no weights, as a program: python bright_labeler.py IMAGES OUT."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labeler.files.storage import locate
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.records import Instance
from ontologies import Ontology
from workflows.label import LabelSummary, label
from workflows.run.shards import ShardReport
from workflows.settings.job import LabelJob

SECONDS_AN_IMAGE = 0.004


class BrightLabeler:
    """One instance an image: what is brighter than the mean."""

    def label(self, images: Sequence[NDArray[np.uint8]], ontologies: Sequence[Ontology]) -> list[list[Instance]]:
        time.sleep(SECONDS_AN_IMAGE * len(images))
        labeled = []
        for image in images:
            grey = image.mean(axis=2)
            rle = mask_to_rle(grey > grey.mean())
            score = 0.5 + float(grey.mean()) / 512
            labeled.append([Instance(0, "bright", rle_box_xyxy(rle), score, 0.9, 0.9, rle_area(rle), rle)])
        return labeled


class Silent:
    def begin(self, images: int, already_labeled: int) -> None:
        print(f"{already_labeled} of {images}", flush=True)

    def advance(self, report: ShardReport) -> None: ...
    def say(self, message: str) -> None: ...


def run(images: str, output: str, shard_size: int = 16, prune: bool = False) -> LabelSummary:
    model = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")
    ontology = Ontology.from_text("bright")
    job = LabelJob(images, locate(output), ontology, model, shard_size=shard_size, prune=prune, load=BrightLabeler)
    return label(job, Silent())


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2])
