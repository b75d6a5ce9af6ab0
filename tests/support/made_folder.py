"""A labeled folder without a model: scenes, their true masks moved a little, and made-up scores from a fixed seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from labeler.demo.scenes import make_scene, scene_rng
from labeler.files.image_table import ImageTable
from labeler.files.images import content_digest
from labeler.files.listing import stamps
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from ontologies import Ontology
from workflows.run.folder import RunFolder
from workflows.settings.job import LabelJob
from workflows.settings.of_job import settings_of

SHARD_SIZE = 64
FAILURE = "the file is cut short"


def write_labeled(folder: Path, names: Sequence[str], classes: Sequence[str], side: int = 320) -> Path:
    """``folder/images`` and the run in ``folder/dataset``; the latter is returned.

    Every seventh image has no instance, and the last one could not be read.
    """
    images = folder / "images"
    scenes = [make_scene(scene_rng(5, index), side) for index in range(min(len(names), 40))]
    records = []
    for number, name in enumerate(names):
        path = images / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number == len(names) - 1:
            path.write_bytes(b"cut")
            records.append(ImageRecord(name, 0, 0, "", "error", FAILURE))
            continue
        scene = scenes[number % len(scenes)]
        pixels = scene.image.copy()
        pixels[0, 0] = number % 256, number // 256, 0  # no two files alike
        Image.fromarray(pixels).save(path)
        rng = np.random.default_rng([3, number])
        instances = [_instance(scene.mask(i % len(scene.pairs)), rng, classes) for i in range(12 if number % 7 else 0)]
        instances.sort(key=lambda instance: -instance.score)
        digest = content_digest(path.read_bytes())
        records.append(ImageRecord(name, side, side, digest, instances=tuple(instances)))
    model = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")
    job = LabelJob(str(images), folder / "dataset", Ontology.from_text(", ".join(classes)), model)
    run = RunFolder(folder / "dataset")
    run.records.mkdir(parents=True)
    run.begin(settings_of(job, images), restart=True)
    run.plan(ImageTable.of(pa.array(names), pa.array(stamps(images, list(names)), pa.string())), SHARD_SIZE)
    by_name = {record.image_id: record for record in records}
    for shard in run.shards():
        write_records(shard.records_path, [by_name[image_id] for image_id in shard.image_ids])
    return folder / "dataset"


def _instance(mask: np.ndarray, rng: np.random.Generator, classes: Sequence[str]) -> Instance:
    rle = mask_to_rle(np.roll(mask, rng.integers(-8, 9, 2), (0, 1)))
    score, mask_score, stability = (
        float(np.float32(value)) for value in (rng.beta(2, 2.5), rng.beta(8, 2), rng.beta(9, 1.5))
    )
    class_id = int(rng.integers(len(classes)))
    box = rle_box_xyxy(rle)
    return Instance(class_id, classes[class_id], box, max(score, 0.05), mask_score, stability, rle_area(rle), rle)
