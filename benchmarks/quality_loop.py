"""Seconds and peak memory of evaluate, tune and report, and of pycocotools alone on the same instances.

python benchmarks/quality_loop.py [--images 5000] [--folder DIR] [--rounds 3]

In each round pycocotools and evaluate take turns, so that the ratio of the two says something on a busy machine too.
CPU seconds are those of all processes; the memory is that of the largest.

The labeled folder is made without models: ten ellipses per image are the ground truth; nine of ten candidates are such
an ellipse, moved further the lower their scores are, and the others lie anywhere.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.files.images import read_image
from labeler.files.listing import search_images
from labeler.files.sorting import sorted_images
from labeler.formats.coco import CocoWriter
from labeler.geometry.masks import Rle, mask_to_rle, rle_area, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from ontologies import Ontology
from workflows.dataset.export import export
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.of_job import settings_of

WIDTH, HEIGHT, OBJECTS, CLASSES = 640, 480, 10, 20
NAMES = [f"kind {index}" for index in range(CLASSES)]
PYCOCOTOOLS = """
import sys
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
truth = COCO(sys.argv[1])
detections = truth.loadRes(sys.argv[2])
for kind in ("segm", "bbox"):
    evaluation = COCOeval(truth, detections, kind)
    evaluation.evaluate(); evaluation.accumulate(); evaluation.summarize()
"""
# Only Linux reports a child's peak memory this way.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)
"""
Ellipse = NDArray[np.float64]  # x, y, half axes, angle in degrees


def make_ellipse(rng: np.random.Generator) -> Ellipse:
    return np.array([rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), *rng.uniform(12, 90, 2), rng.uniform(0, 180)])


def draw(canvas: NDArray[np.uint8], ellipse: Ellipse, colour: tuple[int, ...]) -> None:
    x, y, a, b, angle = ellipse
    cv2.ellipse(canvas, ((x, y), (2 * a, 2 * b), angle), colour, thickness=-1)


def rle_of(ellipse: Ellipse) -> Rle:
    canvas = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    draw(canvas, ellipse, (1,))
    return mask_to_rle(canvas.astype(bool))


def instance(class_id: int, rle: Rle, score: float, mask_score: float) -> Instance:
    return Instance(
        class_id, NAMES[class_id], rle_box_xyxy(rle), score, mask_score, min(1.0, mask_score + 0.1), rle_area(rle), rle
    )


def make_image(index: int) -> tuple[NDArray[np.uint8], list[Instance], list[Instance]]:
    """Pixels, ground truth and candidates of one image."""
    rng = np.random.default_rng((7, index))
    pixels = np.full((HEIGHT, WIDTH, 3), rng.integers(0, 256, 3), dtype=np.uint8)
    truth, candidates = [], []
    for _ in range(OBJECTS):
        ellipse, class_id = make_ellipse(rng), int(rng.integers(CLASSES))
        draw(pixels, ellipse, tuple(map(int, rng.integers(0, 256, 3))))
        rle = rle_of(ellipse)
        if not rle_area(rle):
            continue
        truth.append(instance(class_id, rle, 1.0, 1.0))
        quality = float(rng.beta(4, 2))
        is_match = rng.random() < 0.9
        moved = ellipse + (1 - quality) * rng.normal(0, 12, 5) if is_match else make_ellipse(rng)
        moved[2:4] = np.abs(moved[2:4]) + 4
        score = float(np.clip((quality if is_match else rng.beta(2, 5)) + rng.normal(0, 0.1), 0.1, 1))
        mask_score = float(np.clip((quality if is_match else rng.beta(2, 3)) + 0.2 + rng.normal(0, 0.1), 0, 1))
        if rle_area(moved_rle := rle_of(moved)):
            candidates.append(instance(class_id, moved_rle, score, mask_score))
    return pixels, truth, sorted(candidates, key=lambda each: -each.score)


def make_labeled(folder: Path, count: int) -> None:
    """``images/``, ``truth.json`` and ``labeled/``, as ``labeler label`` would leave it."""
    images, output = folder / "images", folder / "labeled"
    images.mkdir(parents=True)
    truth, detections = [], {}
    for index in range(count):
        pixels, true, candidates = make_image(index)
        name = f"{index:06d}.jpg"
        Image.fromarray(pixels).save(images / name, quality=90)
        truth.append(ImageRecord(name, WIDTH, HEIGHT, "", instances=tuple(true)))
        digest = read_image(images / name).digest  # the report shows only images as they were labeled
        detections[name] = ImageRecord(name, WIDTH, HEIGHT, digest, instances=tuple(candidates))
    for file_name, records in (("truth.json", truth), ("detections.json", list(detections.values()))):
        with CocoWriter(folder / file_name, NAMES) as writer:
            for record in records:
                writer.add(record)
    results = folder / "detections.json"
    results.write_text(json.dumps(json.loads(results.read_text())["annotations"]))
    ontology = Ontology.from_text(", ".join(NAMES))
    job = LabelJob(str(images), output, ontology, ModelConfig("embedded:detector", "embedded:segmenter"))
    source, run = search_images(images), RunFolder(output)
    with run.locked():
        run.begin(settings_of(job, source.root), restart=False)
        run.plan(sorted_images(source.root, source.found), 64)
        for shard in run.waiting():
            write_records(shard.records_path, [detections[image_id] for image_id in shard.image_ids])
        export(run, source.root, ontology, ExportConfig())


class Used(NamedTuple):
    """What a command took."""

    seconds: float
    cpu_seconds: float


def measure(name: str, *arguments: str | Path) -> Used:
    """Run a command; print and return what it took."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    seconds = time.perf_counter() - started
    code, cpu_seconds, peak = map(float, done.stdout.split())
    if code:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    print(f"{name:28}  {seconds:6.1f} s  {cpu_seconds:6.1f} CPU s  {peak:6.0f} MiB", flush=True)
    return Used(seconds, cpu_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--folder", type=Path, help="keep the labeled folder here, and reuse it if it exists")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "data"
        if not folder.exists():
            make_labeled(folder, args.images)
        output, truth = folder / "labeled", folder / "truth.json"
        command = ("-m", "labeler")
        ratios = []
        for _ in range(args.rounds):
            alone = measure("pycocotools alone", "-c", PYCOCOTOOLS, truth, folder / "detections.json")
            ours = measure("labeler evaluate", *command, "evaluate", output, "--truth", truth)
            ratios.append([mine / theirs for mine, theirs in zip(ours, alone, strict=True)])
        seconds, cpu_seconds = map(median, zip(*ratios, strict=True))
        print(
            f"evaluate takes {seconds:.2f} of pycocotools alone, {cpu_seconds:.2f} in CPU seconds (medians)", flush=True
        )
        measure("labeler tune", *command, "tune", output, "--truth", truth, "-o", folder / "tuned.toml")
        measure("labeler report", *command, "report", output)
        print(f"report.html has {math.ceil((output / 'report.html').stat().st_size / 2**20)} MiB")


if __name__ == "__main__":
    main()
