"""Writes the annotations of a Hugging Face ``imagefolder``: ``metadata.parquet`` beside the images of a split.

    train/a.jpg  train/metadata.parquet  validation/…  test/…  README.md

``datasets.load_dataset("imagefolder", data_dir=…)`` reads it with typed columns; the images stay files. The types are
in the schema of the Parquet file, as ``datasets`` writes them: ``category`` has its names, and an image without objects
changes no type. See ``labeler.formats.dataset_card`` for the README.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labeler.errors import UsageError
from labeler.files.local import naming
from labeler.geometry.masks import rle_area, rle_box_xyxy
from labeler.geometry.polygons import mask_to_polygons
from labeler.records import ImageRecord
from ontologies.documents import parse_json

FOLDERS = {"train": "train", "val": "validation", "test": "test"}
METADATA = "metadata.parquet"
ROWS = 500  # per row group, which is all that is held in memory


def features(class_names: Sequence[str]) -> dict[str, Any]:
    """The columns as ``datasets.Features.to_dict`` describes them, in words that its versions 3 to 5 know.

    ``bbox`` is x, y, width, height in pixels; ``segmentation`` has the polygons of each object along pixel edges, which
    pycocotools turns back into the exact mask.
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


def _polygons(segmentation: Any) -> list[Any]:
    """The polygons of a COCO segmentation."""
    if isinstance(segmentation, list):
        return segmentation
    return mask_to_polygons({"size": segmentation["size"], "counts": segmentation["counts"].encode("ascii")})


class HuggingFaceWriter:
    """Writes ``metadata.parquet`` of one split, one image at a time, atomically and in constant memory.

    Args:
        path: the file, in the folder of the split's images. It appears when the block ends without an error.
        class_names: by class id.
    """

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self._path = path
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
            if not (area := rle_area(instance.rle)):
                continue
            x1, y1, x2, y2 = rle_box_xyxy(instance.rle)
            objects["category"].append(instance.class_id)
            objects["bbox"].append([x1, y1, x2 - x1, y2 - y1])
            objects["area"].append(area)
            objects["score"].append(instance.joint_score)
            objects["segmentation"].append(mask_to_polygons(instance.rle))
        self._add_row(file_name, record.width, record.height, objects)

    def add_made(self, file_name: str, width: int, height: int, annotations: Iterable[str]) -> None:
        """Append an image with its ``labeler.formats.coco.coco_annotations``, which round scores to six digits."""
        made = [parse_json("{" + text) for text in annotations]
        objects = {
            "category": [each["category_id"] - 1 for each in made],
            **{name: [each[name] for each in made] for name in ("bbox", "area", "score")},
            "segmentation": [_polygons(each["segmentation"]) for each in made],
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
