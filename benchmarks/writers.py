"""Objects a second through the dataset writers, and the cost of YOLO labels against an earlier commit in the same run.

    python benchmarks/writers.py [--images 300]                     # on masks of the demo scenes
    python benchmarks/writers.py --against COMMIT [--rounds 7]      # YOLO labels, 320 x 320 to 4K
    python benchmarks/writers.py --simplify [--images 300]          # simplified polygons: size, IoU and cost

For the comparison, records hold ten blobs with uneven outlines; a process of each version writes them in turn. CPU
seconds are counted, and the digest of what was written must be equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from two_versions import ROOT, Version, unpacked

from labeler.demo.scenes import SHAPES, make_scene, scene_rng
from labeler.formats.coco import CocoWriter, coco_annotations
from labeler.formats.yolo import write_yolo_labels, yolo_labels
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.geometry.polygon_rule import PolygonRule
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from workflows.dataset.polygon_fit import PolygonFits, fit_of
from workflows.settings.export import ExportConfig

# width, height, and the sides of the blobs in pixels at least and at most
SIZES = {
    "320 x 320": (320, 320, 30, 120),
    "640 x 480": (640, 480, 40, 200),
    "1080p": (1920, 1080, 75, 350),
    "4K": (3840, 2160, 150, 700),
}
SCENES = "demo scenes, 320 x 320"
TOLERANCES, BLOB_SIZES = (0.5, 1.0, 2.0), ("640 x 480", "1080p")
BLOBS, RECORDS, SCENE_COUNT = 10, 6, 30


def scene_record(index: int) -> ImageRecord:
    scene = make_scene(scene_rng(77, index))
    names = list(SHAPES)
    instances = []
    for position, (_, shape) in enumerate(scene.pairs):
        rle = mask_to_rle(scene.mask(position))
        box = rle_box_xyxy(rle)
        instances.append(Instance(names.index(shape), shape, box, 0.9, 0.9, 0.9, rle_area(rle), rle))
    height, width = scene.image.shape[:2]
    return ImageRecord(f"{index}.png", width, height, "", instances=tuple(instances))


def blob_record(rng: np.random.Generator, width: int, height: int, least: int, most: int) -> ImageRecord:
    instances = []
    for _ in range(BLOBS):
        side = int(rng.integers(least, most))
        noise = cv2.resize(rng.random((6, 6)), (side, side), interpolation=cv2.INTER_CUBIC)
        y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        mask = np.zeros((height, width), dtype=np.bool_)
        left, top = int(rng.integers(width - side)), int(rng.integers(height - side))
        mask[top : top + side, left : left + side] = 1 - 1.3 * (x * x + y * y) + 0.9 * (noise - 0.5) > 0
        rle = mask_to_rle(mask)
        instances.append(Instance(0, "blob", rle_box_xyxy(rle), 0.9, 0.9, 0.9, rle_area(rle), rle))
    return ImageRecord("blobs.png", width, height, "", instances=tuple(instances))


def serve() -> None:
    """Writes the labels of a case for each line of the input."""
    rng = np.random.default_rng(0)
    cases = {name: [blob_record(rng, *size) for _ in range(RECORDS)] for name, size in SIZES.items()}
    cases[SCENES] = [scene_record(index) for index in range(SCENE_COUNT)]
    for line in sys.stdin:
        records = cases[line.strip()]
        before = time.process_time()
        texts = [yolo_labels(record) for record in records]
        seconds = time.process_time() - before
        count = sum(len(record.instances) for record in records)
        digest = hashlib.sha256("".join(texts).encode()).hexdigest()
        print(json.dumps({"ms": 1000 * seconds / count, "digest": digest}), flush=True)


def compare(commit: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trees = (ROOT, unpacked(commit, Path(folder)))
        now, before = (Version(tree, __file__, "--serve") for tree in trees)
        print("| masks | ms an instance now | before | before / now | same bytes |")
        print("| --- | ---: | ---: | ---: | --- |")
        for case in (*SIZES, SCENES):
            pairs = [(now.measured(case), before.measured(case)) for _ in range(rounds)]
            ratio = statistics.median(old["ms"] / new["ms"] for new, old in pairs)
            same = len({each["digest"] for pair in pairs for each in pair}) == 1
            print(
                f"| {case} | {min(new['ms'] for new, _ in pairs):.3f} | {min(old['ms'] for _, old in pairs):.3f} "
                f"| {ratio:.1f} | {'yes' if same else 'NO'} |",
                flush=True,
            )
        now.close()
        before.close()


def rates(images: int) -> None:
    records = [scene_record(index) for index in range(images)]
    objects = sum(len(record.instances) for record in records)
    names = list(SHAPES)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)

        def yolo() -> None:
            for record in records:
                write_yolo_labels(folder / f"{record.image_id}.txt", record)

        def coco(name: str, segmentation: Literal["rle", "polygon"]) -> None:
            with CocoWriter(folder / name, names, segmentation) as writer:
                for record in records:
                    writer.add(record)

        writers: dict[str, Callable[[], None]] = {
            "records (Parquet)": lambda: write_records(folder / "records.parquet", records),
            "COCO, RLE": lambda: coco("rle.json", "rle"),
            "COCO, polygons": lambda: coco("polygon.json", "polygon"),
            "YOLO-seg": yolo,
        }
        print(f"{objects} objects of {len(records)} images, 320 × 320 pixels")
        for name, write in writers.items():
            started = time.perf_counter()
            write()
            print(f"{name:18} {objects / (time.perf_counter() - started):8.0f} objects/s")


def simplify(images: int) -> None:
    """Label files and COCO polygons by tolerance, against exact ones."""
    rng = np.random.default_rng(0)
    cases = {SCENES: [scene_record(index) for index in range(images)]}
    cases |= {f"blobs, {name}": [blob_record(rng, *SIZES[name]) for _ in range(images // 5)] for name in BLOB_SIZES}
    print("| masks | `--simplify` | YOLO bytes | IoU, mean | lowest | COCO bytes | IoU, mean | lowest | CPU ms |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for case, records in cases.items():
        exact = polygons_written(records, 0.0)
        for tolerance in TOLERANCES:
            found = polygons_written(records, tolerance)
            cells = [f"{tolerance:g}"]
            fits = fits_of(records, tolerance)
            for ious, before, now in ((fits.yolo, exact[0], found[0]), (fits.coco, exact[1], found[1])):
                cells += [f"{now / before:.2f}", f"{ious.total / ious.objects:.3f}", f"{ious.lowest:.3f}"]
            print(f"| {case} | {' | '.join(cells)} | {found[2]:.2f} instead of {exact[2]:.2f} |", flush=True)


def polygons_written(records: list[ImageRecord], tolerance: float) -> tuple[int, int, float]:
    """Bytes of YOLO labels, bytes of COCO annotations with polygons, and CPU milliseconds an instance for both."""
    rule, began = PolygonRule(tolerance), time.process_time()
    yolo = sum(len(yolo_labels(record, rule)) for record in records)
    coco = sum(len(text) for record in records for text in coco_annotations(record, len(SHAPES), "polygon", rule))
    seconds = time.process_time() - began
    return yolo, coco, 1000 * seconds / sum(len(record.instances) for record in records)


def fits_of(records: list[ImageRecord], tolerance: float) -> PolygonFits:
    config = ExportConfig(formats=("yolo", "coco"), segmentation="polygon", simplify=tolerance)
    fits = PolygonFits(config)
    for record in records:
        fits.add(record.image_id, fit_of(record, config))
    return fits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--against", metavar="COMMIT", help="the earlier version")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--simplify", action="store_true", help="measure simplified polygons")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve()
    elif args.simplify:
        simplify(args.images)
    elif args.against:
        compare(args.against, args.rounds)
    else:
        rates(args.images)


if __name__ == "__main__":
    main()
