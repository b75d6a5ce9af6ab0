"""What an export writes in the formats that trainers read, read back by the trainers' own code."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import supervision as sv
from PIL import Image

from labeler.errors import UsageError
from labeler.formats.voc_reader import read_voc
from labeler.geometry.masks import rle_box_xyxy, rle_to_mask
from labeler.record_files import write_records
from labeler.records import ImageRecord
from tests.support.run_folders import ONTOLOGY, instance, make_run, records_of
from workflows.dataset.export import export
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

FORMATS = ("yolo-detect", "roboflow", "voc", "semantic", "hf")
INSTANCES = {
    "a.png": (instance(0, 0.9, 0), instance(1, 0.8, 10)),
    "b.png": (instance(1, 0.95, 30),),
    "sub/c.jpg": (instance(0, 0.7, 40), instance(0, 0.5, 20)),
    "none.png": (),
    "more.bmp": (instance(1, 0.9, 3),),
}
ROBOFLOW = {"train": "train", "val": "valid"}
HUGGING_FACE = {"train": "train", "val": "validation"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, root = make_run(tmp_path_factory.mktemp("formats"), list(INSTANCES), ())
    records = [record for name, each in INSTANCES.items() for record in records_of(root, [name], each)]
    write_records(run.records / "000000.parquet", records)
    export(run, root, ONTOLOGY, ExportConfig(val_share=0.4, formats=FORMATS))
    return run.output


def split_of(dataset: Path) -> dict[str, str]:
    """The split of each image, by the name of its file in the dataset."""
    paths = [path.relative_to(dataset / "images") for path in dataset.glob("images/*/**/*") if path.is_file()]
    return {str(path.relative_to(path.parts[0])): path.parts[0] for path in paths}


def expected(name: str) -> ImageRecord:
    """The record of the image whose file is called ``name``."""
    image_id = "sub/c.jpg" if name.endswith("c.jpg") else name
    return ImageRecord(image_id, 60, 40, "", instances=INSTANCES[image_id])


def boxes(record: ImageRecord) -> list[tuple[int, list[float]]]:
    return sorted((each.class_id, list(rle_box_xyxy(each.rle))) for each in record.instances)


def found(detections: sv.Detections) -> list[tuple[int, list[float]]]:
    pairs = zip(detections.class_id.tolist(), detections.xyxy.tolist(), strict=True) if len(detections) else ()
    return sorted((class_id, box) for class_id, box in pairs)


def test_both_splits_have_images(dataset: Path) -> None:
    assert sorted(split_of(dataset).values()) == ["train"] * 2 + ["val"] * 3


def test_boxes_for_yolo(dataset: Path) -> None:
    for name, split in split_of(dataset).items():
        lines = (dataset / "labels" / split / name).with_suffix(".txt").read_text().splitlines()
        rows = np.array([line.split() for line in lines], dtype=float).reshape(-1, 5)
        centre, size = rows[:, 1:3] * (60, 40), rows[:, 3:] * (60, 40)
        corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1).round(3).tolist()
        assert sorted(zip(rows[:, 0].astype(int).tolist(), corners, strict=True)) == boxes(expected(name))
    check = pytest.importorskip("ultralytics.data.utils").check_det_dataset
    assert check(str(dataset / "data.yaml"), autodownload=False)["names"] == {0: "dog", 1: "cat"}


def test_roboflow_layout(dataset: Path) -> None:
    for split, folder in ROBOFLOW.items():
        home = dataset / "roboflow" / folder
        read = sv.DetectionDataset.from_coco(str(home), str(home / "_annotations.coco.json"))
        names = [name for name, of in split_of(dataset).items() if of == split]
        assert len(read) == len(names)
        for name in names:
            assert found(read.annotations[str((home / name).resolve())]) == boxes(expected(name))
            assert (home / name).read_bytes() == (dataset / "images" / split / name).read_bytes()


def test_rf_detr_reads_the_roboflow_layout(dataset: Path) -> None:
    datasets = pytest.importorskip("rfdetr.datasets")
    options = dict(square_resize_div_64=True, segmentation_head=True, multi_scale=False, expanded_scales=False)
    arguments = SimpleNamespace(dataset_dir=str(dataset / "roboflow"), patch_size=16, num_windows=4, **options)
    assert datasets.detect_roboflow_format(dataset / "roboflow") == "coco"
    for split in ROBOFLOW:
        read = datasets.build_roboflow(split, arguments, 256)
        assert len(read) == list(split_of(dataset).values()).count(split)
        assert all(len(target["labels"]) == len(target["masks"]) for _, target in read)


def test_pascal_voc(dataset: Path, tmp_path: Path) -> None:
    voc = pytest.importorskip("torchvision.datasets")
    (tmp_path / "VOCdevkit").mkdir()
    (tmp_path / "VOCdevkit" / "VOC2012").symlink_to(dataset / "voc")
    names = {Path(name).with_suffix(".jpg").name: name for name in split_of(dataset)}
    for split in ("train", "val"):
        parts = voc.VOCDetection(tmp_path, image_set=split), voc.VOCSegmentation(tmp_path, image_set=split)
        assert len(parts[0]) == len(parts[1]) == list(split_of(dataset).values()).count(split)
        for (image, target), (_, mask) in zip(*parts, strict=True):
            record = expected(names[target["annotation"]["filename"]])
            assert image.size == mask.size == (60, 40)
            assert len(target["annotation"]["object"]) == len(record.instances)
            assert set(np.unique(np.asarray(mask))) == {0, *(each.class_id + 1 for each in record.instances)}
    truth = {image.name: image for image in read_voc(dataset / "voc" / "Annotations").images}
    assert len(truth) == len(names)


def test_semantic_masks(dataset: Path) -> None:
    for name, split in split_of(dataset).items():
        canvas = np.zeros((40, 60), dtype=int)
        for each in sorted(expected(name).instances, key=lambda each: each.score):
            canvas[rle_to_mask(each.rle)] = each.class_id + 1
        mask = Image.open((dataset / "masks" / split / name).with_suffix(".png"))
        np.testing.assert_array_equal(np.asarray(mask), canvas)
    check = pytest.importorskip("ultralytics.data.utils").check_det_dataset
    content = check(str(dataset / "semantic.yaml"), autodownload=False)
    assert (content["names"], content["masks_dir"]) == ({0: "background", 1: "dog", 2: "cat"}, "masks")


def test_hugging_face_folder(dataset: Path) -> None:
    for split, folder in HUGGING_FACE.items():
        rows = pq.read_table(dataset / "hf" / folder / "metadata.parquet").to_pylist()
        assert sorted(row["file_name"] for row in rows) == sorted(
            name for name, of in split_of(dataset).items() if of == split
        )
        for row in rows:
            objects, record = row["objects"], expected(row["file_name"])
            corners = [[x, y, x + width, y + height] for x, y, width, height in objects["bbox"]]
            assert sorted(zip(objects["category"], corners, strict=True)) == boxes(record)
            assert objects["score"] == pytest.approx([each.joint_score for each in record.instances], abs=1e-6)
    load = pytest.importorskip("datasets").load_dataset
    read = load("imagefolder", data_dir=str(dataset / "hf"))
    assert {name: len(part) for name, part in read.items()} == {"train": 2, "validation": 3}
    assert read["train"].features["objects"]["category"].feature.names == ["dog", "cat"]


def test_formats_that_are_dropped_leave_with_their_images(dataset: Path) -> None:
    run = RunFolder(dataset)
    root = dataset.parent / "input"
    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=0.4, formats=("coco",)))
    try:
        assert sorted(path.name for path in dataset.iterdir()) == ["README.md", "annotations", "images", "run"]
        assert summary.set_aside == []
    finally:
        export(run, root, ONTOLOGY, ExportConfig(val_share=0.4, formats=FORMATS))


@pytest.mark.parametrize("link", ["symlink", "copy"])
def test_images_of_a_format_come_and_go_with_it(link: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "film.gif"], ())
    export(run, root, ONTOLOGY, ExportConfig(val_share=0, formats=("hf",), link=link))
    images = {name: run.output / "hf" / "train" / name for name in ("a.png", "film.png")}
    assert all(Image.open(path).size == (60, 40) for path in images.values())
    assert images["a.png"].is_symlink() == (link == "symlink")
    assert not images["film.png"].is_symlink()  # a link to another file of the dataset would break with it
    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=0, formats=("coco",), link=link))
    assert (summary.edited, summary.set_aside) == ([], [])
    assert not (run.output / "hf").exists()
    assert (root / "a.png").exists()


def test_a_linked_image_becomes_a_copy(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], ())
    for link in ("hard", "copy"):
        export(run, root, ONTOLOGY, ExportConfig(val_share=0, formats=("hf",), link=link))
    assert (run.output / "hf" / "train" / "a.png").stat().st_nlink == 1


def test_an_own_file_beside_the_images_stays(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], (instance(0, 0.9, 0),))
    own = run.output / "roboflow" / "train" / "_annotations.coco.json"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=0, formats=("roboflow",)))
    assert (own.read_text(), summary.edited) == ("mine", ["roboflow/train/_annotations.coco.json"])
    assert json.loads((own.parents[1] / "valid" / own.name).read_text())["images"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": ("yolo", "yolo-detect")}, "yolo and yolo-detect both write labels/"),
        ({"formats": ("coco", "hf"), "link": "none"}, "hf must hold the images"),
    ],
)
def test_formats_that_do_not_go_together(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        ExportConfig(**options)
    assert "\n" not in str(caught.value)
