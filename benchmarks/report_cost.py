"""Seconds and peak memory of ``labeler report``; no model runs: masks are the demo scenes' own, scores are made up.

python benchmarks/report_cost.py [--images 5000] [--instances 10] [--side 640]
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from labeler.demo.scenes import SHAPES, make_scene, scene_rng
from labeler.images import content_digest
from labeler.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.models import ModelConfig
from labeler.records import ImageRecord, Instance, write_records
from ontologies import Ontology
from workflows.label import SHARD_SIZE, LabelJob, settings
from workflows.run_folder import RunFolder

NAMES = list(SHAPES)


def write_labeled(folder: Path, images: int, instances: int, side: int) -> Path:
    """Images, and a run folder with records of them; the run's folder is returned."""
    (folder / "images").mkdir()
    files, candidates = [], []
    for index in range(50):
        scene = make_scene(scene_rng(5, index), side)
        file = io.BytesIO()
        Image.fromarray(scene.image).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
        rng = scene_rng(6, index)
        found = []
        for number in range(4 * instances):
            place = number % len(scene.pairs)
            rle = mask_to_rle(np.roll(scene.mask(place), rng.integers(-9, 10, 2), (0, 1)))
            class_id = NAMES.index(scene.pairs[place][1])
            scores = float(rng.beta(2, 2.5)), float(rng.beta(8, 2)), float(rng.beta(9, 1.5))
            found.append(Instance(class_id, NAMES[class_id], rle_box_xyxy(rle), *scores, rle_area(rle), rle))
        candidates.append(found)
    ids = [f"{index:06d}.jpg" for index in range(images)]
    job = LabelJob(
        str(folder / "images"),
        folder / "dataset",
        Ontology.from_text(", ".join(NAMES)),
        ModelConfig("embedded:detector", "embedded:segmenter"),
    )
    run = RunFolder(job.output)
    run.records.mkdir(parents=True)
    run.begin(settings(job, folder / "images"), restart=True)
    run.plan(pa.array(ids), pa.array(ids), SHARD_SIZE)
    rng = np.random.default_rng(0)
    for shard in run.shards():
        records = []
        for image_id in shard.image_ids:
            kind = int(rng.integers(len(files)))
            data = files[kind] + image_id.encode()  # behind the picture's end: no two files alike
            (folder / "images" / image_id).write_bytes(data)
            chosen = rng.choice(len(candidates[kind]), instances, replace=False)
            found = sorted((candidates[kind][i] for i in chosen), key=lambda instance: -instance.score)
            records.append(ImageRecord(image_id, side, side, content_digest(data), instances=tuple(found)))
        write_records(shard.records_path, records)
    return job.output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--instances", type=int, default=10, help="of each image")
    parser.add_argument("--side", type=int, default=640)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        output = write_labeled(Path(scratch), options.images, options.instances, options.side)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "workflows.cli", "report", output], check=True)
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = (output / "report.html").stat().st_size / 1e6
        print(f"{seconds:.1f} s, {peak:.0f} MiB at the peak, {size:.1f} MB")


if __name__ == "__main__":
    main()
