from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from labeler.errors import UsageError
from labeler.formats import hugging_face
from labeler.formats.hugging_face import FOLDERS, METADATA, HuggingFaceWriter, features
from labeler.geometry.masks import rle_box_xyxy, rle_to_mask
from labeler.geometry.polygons import polygons_to_rle
from labeler.records import ImageRecord
from tests.support.hard_masks import HARD_MASKS
from tests.support.labeled_image import labeled_image, write_image

NAMES = ["cat", "großer Hund", 'a "quoted", name']
MASKS = [mask for mask in HARD_MASKS.values() if mask.shape[0] >= 40]
RECORDS = {
    "train": [
        labeled_image("none.png"),  # the first row, whose lists are empty, must not decide their type
        *(labeled_image(f"a{n}.png", mask, ~mask, classes=[n % 3, 2]) for n, mask in enumerate(MASKS)),
        labeled_image("sub/nested.png", MASKS[0], classes=[1]),
    ],
    "val": [labeled_image("none.png")],
    "test": [labeled_image("c.png", MASKS[1], classes=[2])],
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("imagefolder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hugging_face, "ROWS", 3)
        for split, records in RECORDS.items():
            (home / FOLDERS[split]).mkdir()
            with HuggingFaceWriter(home / FOLDERS[split] / METADATA, NAMES) as writer:
                for record in records:
                    write_image(home / FOLDERS[split] / record.image_id, record)
                    writer.add(record, record.image_id)
    return home


def check(record: ImageRecord, objects: dict) -> None:
    shown = [each for each in record.instances if each.area]
    assert objects["category"] == [each.class_id for each in shown]
    assert objects["area"] == [each.area for each in shown]
    assert objects["score"] == pytest.approx([each.joint_score for each in shown])
    for x, y, width, height in objects["bbox"]:
        assert (x, y, x + width, y + height) in [rle_box_xyxy(each.rle) for each in shown]
    for polygons, each in zip(objects["segmentation"], shown, strict=True):
        found = polygons_to_rle(polygons, record.height, record.width)
        np.testing.assert_array_equal(rle_to_mask(found), rle_to_mask(each.rle))


def test_parquet(dataset: Path) -> None:
    for split, records in RECORDS.items():
        rows = pq.read_table(dataset / FOLDERS[split] / METADATA).to_pylist()
        for row, record in zip(rows, records, strict=True):
            assert (row["file_name"], row["width"], row["height"]) == (record.image_id, record.width, record.height)
            check(record, row["objects"])
        assert [path.name for path in (dataset / FOLDERS[split]).glob(".*")] == []


def test_load_dataset(dataset: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    found = datasets.load_dataset("imagefolder", data_dir=str(dataset), cache_dir=str(tmp_path))
    assert set(found) == set(FOLDERS.values())
    for split, records in RECORDS.items():
        part = found[FOLDERS[split]]
        assert part.features["objects"]["category"].feature.names == NAMES
        assert part.features["objects"]["bbox"].feature.length == 4
        assert isinstance(part.features["image"], datasets.Image)
        assert len(part) == len(records)
        for row, record in zip(part, records, strict=True):
            assert row["image"].size == (record.width, record.height)
            check(record, row["objects"])


def test_features_are_those_of_the_file(dataset: Path) -> None:
    datasets = pytest.importorskip("datasets")
    expected = datasets.Features.from_dict(features(NAMES))
    written = pq.read_schema(dataset / "train" / METADATA)
    assert datasets.Features.from_arrow_schema(written) == expected
    assert expected.arrow_schema.equals(written)


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / METADATA
    wrong = labeled_image("a.png", MASKS[0], classes=[7])
    with HuggingFaceWriter(path, NAMES) as writer:
        writer.add(replace(wrong, instances=()), "a.png")
    before = path.read_bytes()

    def fail() -> None:
        with HuggingFaceWriter(path, NAMES) as writer:
            writer.add(wrong, "a.png")

    with pytest.raises(UsageError, match=r"a\.png: class id 7, but there are 3"):
        fail()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
