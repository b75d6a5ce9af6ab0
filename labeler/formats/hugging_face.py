"""Writes the annotations of a Hugging Face ``imagefolder``: ``metadata.parquet`` beside the images of a split.

    train/a.jpg  train/metadata.parquet  validation/…  test/…  README.md

``datasets.load_dataset("imagefolder", data_dir=…)`` reads it with typed columns; the images stay files. The types are
in the schema of the Parquet file, as ``datasets`` writes them: ``category`` has its names, and an image without objects
changes no type. See ``labeler.formats.dataset_card`` for the README.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labeler.errors import UsageError
from labeler.files.local import naming
from labeler.geometry.masks import Rle, rle_area, rle_box_xyxy
from labeler.geometry.polygon_rule import EXACT, PolygonRule
from labeler.geometry.simplification import coco_outlines
from labeler.records import ImageRecord
from ontologies.documents import parse_json

FOLDERS = {"train": "train", "val": "validation", "test": "test"}
METADATA = "metadata.parquet"
ROWS = 500  # per row group, which is all that is held in memory


def features(class_names: Sequence[str]) -> dict[str, Any]:
    """The columns as ``datasets.Features.to_dict`` describes them, in words that its versions 3 to 5 know.

    ``bbox`` is x, y, width, height in pixels; ``segmentation`` has the polygons of each object along pixel edges, which
    pycocotools turns back into the exact mask, or if they are simplified, into the one that has this box and area.
    """
    objects = {
        "category": {"names": list(class_names), "_type": "ClassLabel"},
        "bbox": _list_of(_value("float32"), length=4),
        "area": _value("int64"),
        "score": _value("float32"),
        "segmentation": _list_of(_list_of(_value("float32"))),
    }
    return {
        "file_name": _value("string"),
        "width": _value("int32"),
        "height": _value("int32"),
        "objects": {name: _list_of(feature) for name, feature in objects.items()},
    }


def _value(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "_type": "Value"}


def _list_of(feature: dict[str, Any], **more: int) -> dict[str, Any]:
    return {"feature": feature, **more, "_type": "Sequence"}


def schema(class_names: Sequence[str]) -> pa.Schema:
    """The Arrow schema of ``features``, with these in its metadata."""
    polygon = pa.list_(pa.float32())
    objects = {
        "category": pa.int64(),
        "bbox": pa.list_(pa.float32(), 4),
        "area": pa.int64(),
        "score": pa.float32(),
        "segmentation": pa.list_(polygon),
    }
    columns = {
        "file_name": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "objects": pa.struct({name: pa.list_(kind) for name, kind in objects.items()}),
    }
    info = json.dumps({"info": {"features": features(class_names)}})
    return pa.schema(columns).with_metadata({"huggingface": info})


def _outlined(rles: Sequence[Rle], rule: PolygonRule) -> Iterator[dict[str, Any]]:
    """Box, area and polygons of each mask of an image."""
    for polygons, drawn in coco_outlines(rles, rule):
        x1, y1, x2, y2 = rle_box_xyxy(drawn)
        yield {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": rle_area(drawn), "segmentation": polygons}


def _with_polygons(annotations: Sequence[dict[str, Any]], rule: PolygonRule) -> list[dict[str, Any]]:
    """COCO annotations of an image, with polygons in place of RLE."""
    if not annotations or isinstance(annotations[0]["segmentation"], list):
        return list(annotations)
    masks = [each["segmentation"] for each in annotations]
    rles: list[Rle] = [{"size": mask["size"], "counts": mask["counts"].encode("ascii")} for mask in masks]
    return [each | outlined for each, outlined in zip(annotations, _outlined(rles, rule), strict=True)]


class HuggingFaceWriter:
    """Writes ``metadata.parquet`` of one split, one image at a time, atomically and in constant memory.

    Args:
        path: the file, in the folder of the split's images. It appears when the block ends without an error.
        class_names: by class id.
        rule: of the polygons.
    """

    def __init__(self, path: Path, class_names: Sequence[str], rule: PolygonRule = EXACT) -> None:
        self._path = path
        self._rule = rule
        self._class_count = len(class_names)
        self._schema = schema(class_names)
        self._temporary = path.with_name(f".{path.name}.partial")
        self._rows: list[dict[str, Any]] = []
        with naming(path):
            self._writer = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")

    def add(self, record: ImageRecord, file_name: str) -> None:
        """Append an image and its instances; those with an empty mask are left out.

        Args:
            file_name: POSIX path of the image, below the folder of the Parquet file.

        Raises:
            UsageError: an instance's class id is not in ``class_names``.
        """
        objects: dict[str, list[Any]] = {"category": [], "bbox": [], "area": [], "score": [], "segmentation": []}
        for instance in record.instances:
            if not 0 <= instance.class_id < self._class_count:
                raise UsageError(
                    f"{record.image_id}: class id {instance.class_id}, but there are {self._class_count} classes"
                )
        instances = [instance for instance in record.instances if rle_area(instance.rle)]
        outlined = _outlined([instance.rle for instance in instances], self._rule)
        for instance, outline in zip(instances, outlined, strict=True):
            objects["category"].append(instance.class_id)
            objects["score"].append(instance.joint_score)
            for name, value in outline.items():
                objects[name].append(value)
        self._add_row(file_name, record.width, record.height, objects)

    def add_made(self, file_name: str, width: int, height: int, annotations: Iterable[str]) -> None:
        """Append an image with its ``labeler.formats.coco.coco_annotations``, which round scores to six digits."""
        made = _with_polygons([parse_json("{" + text) for text in annotations], self._rule)
        objects = {
            "category": [each["category_id"] - 1 for each in made],
            **{name: [each[name] for each in made] for name in ("bbox", "area", "score", "segmentation")},
        }
        self._add_row(file_name, width, height, objects)

    def _add_row(self, file_name: str, width: int, height: int, objects: dict[str, list[Any]]) -> None:
        self._rows.append({"file_name": file_name, "width": width, "height": height, "objects": objects})
        if len(self._rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        with naming(self._path):
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []

    def __enter__(self) -> HuggingFaceWriter:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None and self._rows:
                self._flush()
            with naming(self._path):
                self._writer.close()
                if error is None:
                    os.replace(self._temporary, self._path)
        finally:
            self._temporary.unlink(missing_ok=True)
