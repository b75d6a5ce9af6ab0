"""Objects a second through the dataset writers, on masks of the demo scenes.

python benchmarks/writers.py [--images 300]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from labeler.demo.scenes import SHAPES, make_scene, scene_rng
from labeler.formats.coco import CocoWriter
from labeler.formats.yolo import write_yolo_labels
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    records = [scene_record(index) for index in range(parser.parse_args().images)]
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


if __name__ == "__main__":
    main()
