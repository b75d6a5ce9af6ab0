"""Run folders with records that are written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from labeler.files.images import content_digest
from labeler.geometry.masks import mask_to_rle, rle_area
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from tests.support.run_settings import run_settings
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

ONTOLOGY = Ontology((ClassSpec("dog"), ClassSpec("cat", min_score=0.6)))
STRICT = ExportConfig(val_share=0, quality=QualityConfig(accept_score=0.9))


def instance(class_id: int, score: float, left: int) -> Instance:
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:25, left : left + 15] = True
    rle = mask_to_rle(mask)
    box = (float(left), 5.0, left + 15.0, 25.0)
    return Instance(class_id, "p", box, score, 0.9, 0.95, rle_area(rle), rle)


def make_run(tmp_path: Path, image_ids: list[str], instances: tuple[Instance, ...]) -> tuple[RunFolder, Path]:
    root = tmp_path / "input"
    for image_id in image_ids:
        (root / image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40), (len(image_id), 0, 0)).save(root / image_id)
    run = RunFolder(tmp_path / "out")
    with run.locked():
        run.begin(run_settings(root), restart=False)
    write_labels(run, root, image_ids, instances)
    return run, root


def write_labels(run: RunFolder, root: Path, image_ids: list[str], instances: tuple[Instance, ...]) -> None:
    write_records(run.records / "000000.parquet", records_of(root, image_ids, instances))


def records_of(root: Path, image_ids: Sequence[str], instances: tuple[Instance, ...]) -> list[ImageRecord]:
    """A record for each image below ``root``, all with the same instances."""
    digests = {image_id: content_digest((root / image_id).read_bytes()) for image_id in image_ids}
    return [ImageRecord(image_id, 60, 40, digest, instances=instances) for image_id, digest in digests.items()]


def coco(run: RunFolder) -> dict[str, list[dict[str, object]]]:
    merged: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    for split in ("train", "val"):
        content = json.loads((run.output / "annotations" / f"instances_{split}.json").read_text())
        for key in ("id", "image_id"):  # ids count from 1 in each file
            for entry in (*content["images"], *content["annotations"]):
                if key in entry:
                    entry[key] = f"{split} {entry[key]}"
        for key, items in merged.items():
            items += content[key]
    return merged
