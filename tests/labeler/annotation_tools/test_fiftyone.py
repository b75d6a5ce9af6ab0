from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from labeler.annotation_tools.corrections import SentImage, compare
from labeler.annotation_tools.fiftyone import read_corrected_coco, write_fiftyone
from labeler.errors import FormatError
from labeler.geometry.masks import rle_area, rle_to_mask
from tests.support.hard_masks import HARD_MASKS
from tests.support.sent_images import CLASSES, hard_images, sent_image

NO_FIFTYONE = "fiftyone wants opencv below 5, which would hold this project's tests back, and brings a database server"


def written(folder: Path, *images: SentImage) -> dict[str, Any]:
    write_fiftyone(folder, images, CLASSES)
    return json.loads((folder / "labels.json").read_text())  # type: ignore[no-any-return]


def untouched(image: SentImage, corrected: Any) -> bool:
    decisions = compare(image, corrected)
    return all(d.verdict == "accept" and not d.new_class and not d.new_rle for d in decisions)


def test_what_was_not_touched_comes_back_as_it_was(tmp_path: Path) -> None:
    images = hard_images()
    back = read_corrected_coco(written(tmp_path, *images))
    for image, corrected in zip(images, back, strict=True):
        assert corrected.name == image.name
        assert [(e.object_id, e.class_name, e.rle) for e in corrected.instances] == [
            (e.object_id, e.class_name, e.rle) for e in image.instances
        ]
        assert untouched(image, corrected)


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    images = hard_images()
    written(tmp_path, *images)
    coco = COCO(str(tmp_path / "labels.json"))
    for image_id, image in zip(coco.getImgIds(), images, strict=True):
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        for annotation, instance in zip(annotations, image.instances, strict=True):
            assert np.array_equal(coco.annToMask(annotation) == 1, rle_to_mask(instance.rle))
            assert annotation["area"] == rle_area(instance.rle)
            assert coco.loadCats(annotation["category_id"])[0]["name"] == instance.class_name


def test_attributes_as_cvat_has_them_crowds_and_uncompressed_masks(tmp_path: Path) -> None:
    content = written(tmp_path, image := sent_image("a.png", HARD_MASKS["two parts"]))
    annotation = content["annotations"][0]
    flat = rle_to_mask(image.instances[0].rle).ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flat, [1 - flat[-1]])))).tolist()
    counts = np.diff([0, *edges]).tolist()
    annotation |= {"iscrowd": 1, "segmentation": {"counts": counts, "size": annotation["segmentation"]["size"]}}
    annotation["attributes"] = {"labeler_id": annotation.pop("labeler_id"), "occluded": False}
    (corrected,) = read_corrected_coco(content)
    assert (corrected.instances[0].object_id, corrected.instances[0].outlined) == (image.instances[0].object_id, False)
    assert untouched(image, corrected)


def test_shapes_without_a_mask(tmp_path: Path) -> None:
    content = written(tmp_path, sent_image("a.png", *[HARD_MASKS["holes"]] * 4))
    for annotation, segmentation in zip(content["annotations"], ([], None, [[1, 2, 3, 4]]), strict=False):
        annotation["segmentation"] = segmentation
    (corrected,) = read_corrected_coco(content)
    assert (len(corrected.instances), len(corrected.unread)) == (1, 3)


def test_an_image_without_objects_may_lack_its_size(tmp_path: Path) -> None:
    content = written(tmp_path, sent_image("a.png", HARD_MASKS["holes"]))
    content["annotations"] = []
    content["images"][0] |= {"width": None, "height": None, "file_name": "images\\a.png"}
    assert [(image.name, image.instances) for image in read_corrected_coco(content)] == [("images/a.png", ())]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 9}, "annotation 1: 9 is missing"),
        ({"category_id": 9}, "annotation 1: 9 is missing"),
        ({"segmentation": {"size": [3, 3], "counts": "01"}}, r"annotation 1: RLE of size \[3, 3\]"),
        ({"segmentation": [[0, 0, 1, 1, 1e9, 5]]}, "annotation 1: a polygon has points far outside"),
        ({"attributes": []}, "annotation 1"),
    ],
)
def test_what_does_not_hold_together(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = written(tmp_path, sent_image("a.png", HARD_MASKS["holes"]))
    content["annotations"][0] |= change
    with pytest.raises(FormatError, match=message):
        read_corrected_coco(content)
    for entry in ("images", "annotations", "categories"):
        with pytest.raises(FormatError, match="COCO"):
            read_corrected_coco({**content, entry: [1]})


def save_images(folder: Path, images: list[SentImage]) -> None:
    folder.mkdir()
    for image in images:
        Image.new("RGB", (image.width, image.height)).save(folder / image.name)


def by_fiftyone(folder: Path, images: list[SentImage]) -> list[tuple[Any, list[Any]]]:
    """What FiftyOne's importer makes of a written set: sizes and detections; its database is not needed for that."""
    coco = pytest.importorskip("fiftyone.utils.coco", reason=NO_FIFTYONE)
    written(folder, *images)
    save_images(folder / "data", images)
    importer = coco.COCODetectionDatasetImporter(dataset_dir=str(folder), label_types="segmentations")
    imported = {}
    with importer:
        for path, metadata, label in importer:
            imported[Path(path).name] = metadata, label.detections if label else []
    return [imported[image.name] for image in images]


def test_fiftyone_reads_what_is_written(tmp_path: Path) -> None:
    images = hard_images()
    for image, (metadata, detections) in zip(images, by_fiftyone(tmp_path, images), strict=True):
        assert (metadata.width, metadata.height) == (image.width, image.height)
        assert len(detections) == len(image.instances)
        for detection, instance in zip(detections, image.instances, strict=True):
            x, y, _, _ = detection.bounding_box
            top, left = round(y * image.height), round(x * image.width)
            mask = np.zeros((image.height, image.width), dtype=bool)
            height, width = detection.mask.shape
            mask[top : top + height, left : left + width] = detection.mask
            assert np.array_equal(mask, rle_to_mask(instance.rle))
            assert (detection.label, detection["labeler_id"]) == (instance.class_name, instance.object_id)
            assert detection.confidence == pytest.approx(instance.score)


@pytest.mark.parametrize("exact", [True, False])
def test_what_fiftyone_gives_back_untouched(tmp_path: Path, exact: bool) -> None:
    """``export(…, iscrowd="exact_mask")`` keeps masks as they are; without it they come as rough polygons."""
    coco = pytest.importorskip("fiftyone.utils.coco", reason=NO_FIFTYONE)
    images = hard_images()
    exporter = coco.COCODetectionDatasetExporter(
        export_dir=str(tmp_path / "out"), export_media=False, classes=CLASSES, info={},
        **({"iscrowd": "exact_mask"} if exact else {}),
    )  # fmt: skip
    with exporter:
        import fiftyone.core.labels as labels

        (tmp_path / "in").mkdir()
        for image, (metadata, detections) in zip(images, by_fiftyone(tmp_path / "in", images), strict=True):
            path = str(tmp_path / "in" / "data" / image.name)
            exporter.export_sample(path, labels.Detections(detections=detections), metadata=metadata)
    back = read_corrected_coco(json.loads((tmp_path / "out" / "labels.json").read_text()))
    counts = {"same": 0, "else": 0}
    for image, corrected in zip(images, back, strict=True):
        assert corrected.name == image.name
        if exact:
            assert untouched(image, corrected)
        for decision in compare(image, corrected):
            same = decision.verdict == "accept" and decision.new_rle is None
            counts["same" if same else "else"] += 1
    # Polygons lose what is thin or in specks, which the hard masks are mostly made of.
    assert counts["else"] == 0 if exact else counts["same"] > counts["else"]
