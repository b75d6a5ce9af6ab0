"""WebDataset files, read back by the package `webdataset` and masks by pycocotools."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image
from pycocotools import mask as mask_utils

from labeler.formats.coco import coco_annotations
from labeler.formats.parts import group_of, groups
from labeler.formats.webdataset import SampleWriter, sample_key
from labeler.geometry.masks import mask_to_rle
from labeler.records import ImageRecord, Instance

MASK = np.zeros((40, 60), np.bool_)
MASK[5:20, 10:30] = True
MASK[10:12, 15:18] = False


def picture(value: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), value, np.uint8)).save(data, "PNG")
    return data.getvalue()


def written(names: list[str]) -> bytes:
    instance = Instance(0, "cup", (10, 5, 30, 20), 0.5, 0.9, 0.9, int(MASK.sum()), mask_to_rle(MASK))
    file = io.BytesIO()
    writer = SampleWriter(file)
    for value, name in enumerate(names):
        record = ImageRecord(name, 60, 40, "", instances=(instance,) * value)
        writer.add(name, 60, 40, coco_annotations(record, 1), ".PNG", picture(value))
    writer.close()
    return file.getvalue()


def test_webdataset_reads_every_sample_with_its_image_and_masks(tmp_path: Path) -> None:
    names = ["a/scene.front.v2.png", "b/scene.front.v2.png", "Straße 1.png"]
    (tmp_path / "train.tar").write_bytes(written(names))
    samples = list(webdataset.WebDataset(str(tmp_path / "train.tar"), shardshuffle=False).decode("rgb8"))
    assert [sample["json"]["image_id"] for sample in samples] == names
    for value, sample in enumerate(samples):
        assert (sample["png"] == value).all()
        assert (sample["json"]["width"], sample["json"]["height"]) == (60, 40)
        assert len(sample["json"]["annotations"]) == value
        for annotation in sample["json"]["annotations"]:
            assert (mask_utils.decode(annotation["segmentation"]) == MASK).all()
            assert annotation["bbox"] == [10, 5, 20, 15]
            assert (annotation["category_id"], annotation["area"]) == (1, MASK.sum())


def test_equal_samples_give_equal_bytes() -> None:
    assert written(["a.png", "b.png"]) == written(["a.png", "b.png"])


@pytest.mark.parametrize("name", ["a.b.c.jpg", "folder.v2/x.jpg", "...jpg", "\udcff.jpg", "日本.jpg"])
def test_a_key_is_one_word_without_dots(name: str) -> None:
    assert not set(sample_key(name)) & set("./ \\")
    assert sample_key(name) != sample_key(f"other/{name}")
    sample_key(name).encode()


def test_parts_divide_images_evenly_and_for_good() -> None:
    names = [f"{number}.jpg" for number in range(4000)]
    of_name = {name: group_of("train", name, 8) for name in names}
    counts = [list(of_name.values()).count(group) for group in groups(["train"], 8)]
    assert sum(counts) == 4000
    assert min(counts) > 400  # of 500 each
    assert group_of("val", "x.jpg", None) == "val"
    assert groups(["train", "val"], 2)[-1] == "val-00001-of-00002"
