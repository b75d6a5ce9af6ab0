from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import CocoDetection

from labeler.errors import FormatError, UsageError
from labeler.formats.coco import CocoWriter
from labeler.formats.coco_file import read_coco as read_ground_truth
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.records import ImageRecord, Instance
from tests.support.coco_files import read_coco, write_coco
from tests.support.hard_masks import HARD_MASKS, random_masks

NAMES = ["cat", "großer Hund", 'a "quoted", name']


def instance(mask: np.ndarray, class_id: int = 0, score: float = 0.5, mask_score: float = 0.9) -> Instance:
    rle = mask_to_rle(mask)
    return Instance(class_id, "prompt", (0.5, 0.5, 3.5, 3.5), score, mask_score, 0.8, rle_area(rle), rle)


def record(image_id: str, *masks: np.ndarray, size: tuple[int, int] = (8, 6)) -> ImageRecord:
    height, width = masks[0].shape if masks else size
    instances = tuple(instance(mask, class_id=position % 3) for position, mask in enumerate(masks))
    return ImageRecord(image_id, width, height, "digest", instances=instances)


def hard_records() -> list[ImageRecord]:
    masks = [*HARD_MASKS.values(), *random_masks(40)]
    return [record(f"folder/{position}.png", mask, ~mask) for position, mask in enumerate(masks)]


def save_images(folder: Path, records: list[ImageRecord]) -> None:
    for item in records:
        (folder / item.image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (item.width, item.height)).save(folder / item.image_id)


@pytest.mark.parametrize("segmentation", ["rle", "polygon"])
def test_round_trip_is_exact(tmp_path: Path, segmentation: Any) -> None:
    records = [*hard_records(), record("empty.png")]
    write_coco(tmp_path / "a.json", iter(records), NAMES, segmentation=segmentation)
    names, back = read_coco(tmp_path / "a.json")
    assert names == NAMES
    assert [item.image_id for item in back] == [item.image_id for item in records]
    for before, after in zip(records, back, strict=True):
        assert (after.width, after.height, after.status) == (before.width, before.height, "ok")
        written = [item for item in before.instances if item.area]
        assert [item.rle for item in after.instances] == [item.rle for item in written]
        for one, other in zip(written, after.instances, strict=True):
            assert (other.class_id, other.area, other.prompt) == (one.class_id, one.area, NAMES[one.class_id])
            assert (other.score, other.mask_score) == (one.score, one.mask_score)
            assert other.box_xyxy == rle_box_xyxy(one.rle)


def _write(path: Path, records: list[ImageRecord]) -> None:
    with CocoWriter(path, NAMES[:2], segmentation="polygon") as writer:
        for item in records:
            if item.status == "ok":
                writer.add(item, f"x/{item.image_id}")


def test_agreement_is_written_where_not_all_agree(tmp_path: Path) -> None:
    of_all = record("a.jpg", np.ones((8, 6), dtype=bool), np.ones((8, 6), dtype=bool))
    first, second = of_all.instances
    _write(tmp_path / "a.json", [replace(of_all, instances=(first, replace(second, agreement=0.5)))])
    written = json.loads((tmp_path / "a.json").read_bytes())["annotations"]
    assert [(each["score"], each.get("agreement")) for each in written] == [(0.45, None), (0.225, 0.5)]


def test_what_is_written(tmp_path: Path) -> None:
    mask = np.zeros((8, 6), dtype=bool)
    mask[2:5, 1:3] = True
    records = [
        record("a.jpg", mask, np.zeros_like(mask)),
        ImageRecord("broken.jpg", 0, 0, "", status="error", error="torn"),
        record("none.jpg"),
        record("b.jpg", ~mask),
    ]
    path = tmp_path / "a.json"
    _write(path, records)
    first = path.read_bytes()
    _write(path, records)
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]
    content = json.loads(first)
    assert content["images"] == [
        {"id": 1, "file_name": "x/a.jpg", "width": 6, "height": 8},
        {"id": 2, "file_name": "x/none.jpg", "width": 6, "height": 8},
        {"id": 3, "file_name": "x/b.jpg", "width": 6, "height": 8},
    ]
    assert [(item["id"], item["name"]) for item in content["categories"]] == [(1, "cat"), (2, "großer Hund")]
    assert [(item["id"], item["image_id"]) for item in content["annotations"]] == [(1, 1), (2, 3)]
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [1, 2, 2, 3],
        "area": 6,
        "iscrowd": 0,
        "score": 0.45,
        "detector_score": 0.5,
        "mask_score": 0.9,
        "segmentation": [[1, 2, 1, 5, 3, 5, 3, 2]],
    }


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools on NumPy 2
@pytest.mark.parametrize("segmentation", ["rle", "polygon"])
def test_pycocotools_and_torchvision_read_the_same_masks(tmp_path: Path, segmentation: Any) -> None:
    records = hard_records()
    write_coco(tmp_path / "a.json", records, NAMES, segmentation=segmentation)
    save_images(tmp_path, records)
    coco = COCO(tmp_path / "a.json")
    dataset = CocoDetection(str(tmp_path), str(tmp_path / "a.json"))
    assert len(dataset) == len(records)
    for (image, targets), item in zip(dataset, records, strict=True):
        assert image.size == (item.width, item.height)
        written = [kept for kept in item.instances if kept.area]
        for target, one in zip(targets, written, strict=True):
            mask = coco.annToMask(target)
            np.testing.assert_array_equal(mask.astype(bool), rle_to_mask(one.rle))
            assert target["area"] == mask.sum()


def test_supervision_reads_the_same_masks(tmp_path: Path) -> None:
    records = hard_records()
    write_coco(tmp_path / "a.json", records, NAMES)
    save_images(tmp_path, records)
    dataset = sv.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "a.json"), force_masks=True)
    assert dataset.classes == NAMES
    for item in records:
        found = dataset.annotations[str((tmp_path / item.image_id).resolve())]
        written = [kept for kept in item.instances if kept.area]
        assert found.class_id.tolist() == [one.class_id for one in written]
        for mask, box, one in zip(found.mask, found.xyxy, written, strict=True):
            np.testing.assert_array_equal(mask, rle_to_mask(one.rle))
            assert tuple(box) == rle_box_xyxy(one.rle)


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    one = record("a.png", HARD_MASKS["holes"], HARD_MASKS["nested islands"][:90, :90])

    def records(count: int) -> Iterator[ImageRecord]:
        for _ in range(count):
            yield one

    peaks = []
    for count in (100, 2000):
        tracemalloc.start()
        write_coco(tmp_path / "a.json", records(count), NAMES)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000
    assert (tmp_path / "a.json").stat().st_size > 1_000_000


def test_failing_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def records() -> Iterator[ImageRecord]:
        yield record("a.jpg")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_coco(path, records(), NAMES)
    with pytest.raises(UsageError, match=r"a\.jpg: class id 2, but there are 2 classes"):
        write_coco(path, [record("a.jpg", *[np.ones((2, 2), dtype=bool)] * 3)], NAMES[:2])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_reads_what_others_write(tmp_path: Path) -> None:
    """Category ids with gaps, uncompressed and crowd RLE, polygons of floats, no box."""
    annotations = [
        {
            "id": 7,
            "image_id": 30,
            "category_id": 90,
            "segmentation": {"size": [3, 4], "counts": [1, 2, 9]},
            "iscrowd": 1,
        },
        {"id": 8, "image_id": 30, "category_id": 5, "segmentation": [[0.0, 0, 2, 0, 2.0, 3, 0, 3]]},
        {
            "id": 9,
            "image_id": 30,
            "category_id": 5,
            "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1], [3, 2, 4, 2, 4, 3, 3, 3]],
            "bbox": [0, 0.5, 4, 2],
        },
    ]
    content = {
        "info": {"year": 2017},
        "images": [
            {"id": 31, "file_name": "b.jpg", "width": 9, "height": 9, "license": 1},
            {"id": 30, "file_name": "a.jpg", "width": 4, "height": 3},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 5, "name": "plane", "supercategory": "x"}],
        "annotations": annotations,
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    truth = read_ground_truth(tmp_path / "a.json")
    assert truth.class_names == ("plane", "toothbrush")
    assert [image.name for image in truth.images] == ["a.jpg", "b.jpg"]
    crowd, plane, parts = truth.images[0].instances
    assert (crowd.class_id, crowd.crowd, crowd.area) == (1, True, 2)
    assert rle_to_mask(crowd.rle)[1:, 0].all()
    assert (plane.class_id, plane.box, plane.area) == (0, (0, 0, 2, 3), 6)
    assert (parts.area, parts.box, truth.notes) == (2, (0, 0.5, 4, 2.5), ())


IMAGE = {"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}
CATEGORY = {"id": 1, "name": "cat"}
ANNOTATION = {"id": 5, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 3]], "bbox": [0, 0, 2, 3]}


def broken(**changes: Any) -> dict[str, Any]:
    annotation = {key: value for key, value in {**ANNOTATION, **changes}.items() if value is not None}
    return {"images": [IMAGE], "categories": [CATEGORY], "annotations": [annotation]}


def maskless(segmentation: Any) -> dict[str, Any]:
    """An annotation without a box, whose mask cannot be read."""
    return broken(segmentation=segmentation, bbox=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a COCO file"),
        ([], "expected lists 'images', 'annotations' and 'categories'"),
        ({"images": [], "annotations": []}, "expected lists"),
        ({"images": [{"id": 1}], "annotations": [], "categories": []}, "image at position 0: expected 'file_name'"),
        (
            {"images": [IMAGE, {**IMAGE, "width": 9}], "annotations": [], "categories": []},
            "image 1 is there twice, with different content",
        ),
        ({"images": [], "annotations": [], "categories": [{"id": 1}]}, "category at position 0: expected 'name'"),
        ({"images": [IMAGE], "annotations": [3], "categories": []}, "annotation 0"),
        (broken(image_id=2), "annotation 5: names image 2"),
        (broken(category_id=2), "annotation 5: names category 2"),
        (broken(image_id=None), "annotation 5: 'image_id' is missing"),
        (maskless(None), "annotation 5: it has neither a mask nor a box"),
        (maskless([]), "annotation 5: it has neither a mask nor a box"),
        (maskless([[0, 0, 1, 1]]), "annotation 5: it has neither a mask nor a box"),
        (maskless([[0, 0, 1, 1, 2, 2, 3]]), "annotation 5: a polygon is not"),
        (maskless([[0, 0, 1, 1, 2, "x"]]), "annotation 5: "),
        (
            maskless([[0, 0, 1, 1, 2, float("nan")]]),
            "annotation 5: a polygon has points far outside",
        ),
        (maskless([[0, 0, 1, 1, 2, 1e300]]), "annotation 5: a polygon has points far outside"),
        (maskless({"size": [4, 3], "counts": [12]}), "annotation 5: RLE of size"),
        (
            maskless({"size": [3, 4], "counts": [11]}),
            "annotation 5: RLE counts do not sum to 3 x 4",
        ),
        (maskless({"size": [3, 4], "counts": [13, -1]}), "annotation 5: RLE counts do not sum"),
        (maskless({"size": [3, 4], "counts": "14"}), "annotation 5: RLE counts sum to 5"),
        (
            maskless({"size": [3, 4], "counts": "é"}),
            "annotation 5: RLE counts are not a complete",
        ),
        (maskless({"size": [3, 4], "counts": None}), "annotation 5: "),
        (maskless({"size": [3, 4]}), "annotation 5: 'counts' is missing"),
        (maskless("x"), "annotation 5: "),
        (broken(bbox=[1, 2, 3], segmentation=None), "annotation 5: 'bbox' is [1, 2, 3], not x, y, width and height"),
        (broken(bbox=[1, 2, -3, 1], segmentation=None), "annotation 5: 'bbox' is [1, 2, -3, 1], with a negative"),
        (broken(bbox=[4, 0, 2, 2], segmentation=None), "annotation 5: the box has no area in the image"),
        (broken(iscrowd="maybe"), "annotation 5: 'iscrowd' is 'maybe', neither 0 nor 1"),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(FormatError) as caught:
        read_ground_truth(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a COCO file"):
        read_ground_truth(tmp_path / "none.json")


def test_every_version_of_pycocotools_finds_what_it_asks_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``info`` prints it, and ``loadRes`` of some versions copies both; the bytes are the same every time."""
    for name in ("a.json", "b.json"):
        write_coco(tmp_path / name, [record("a.png", HARD_MASKS["holes"])], NAMES)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    coco = COCO(str(tmp_path / "a.json"))
    coco.info()
    assert "contributor: labeler" in capsys.readouterr().out
    assert coco.dataset["licenses"] == []
    results = coco.loadRes([{**coco.anns[1], "score": 0.5}])
    assert results.dataset.get("info", coco.dataset["info"]) == coco.dataset["info"]
