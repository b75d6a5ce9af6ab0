"""Pascal VOC, read back by the own reader, torchvision and supervision, and by datumaro where it is installed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeler.errors import UsageError
from labeler.formats.index_masks import voc_palette
from labeler.formats.mask_images import read_mask_images
from labeler.formats.voc import voc_image_set, voc_label_map, voc_masks, voc_xml
from labeler.formats.voc_reader import read_voc
from labeler.geometry.masks import rle_box_xyxy, rle_to_mask
from labeler.records import ImageRecord
from tests.support.labeled_image import boxes_mask, labeled_image, write_image

NAMES = ["cat", "großer Hund <&>", "third"]
OVERLAPPING = [boxes_mask(30, 40, (2, 2, 22, 20), (30, 25, 33, 30)), boxes_mask(30, 40, (10, 10, 39, 29))]
RECORDS = [
    # name           masks                                        classes  scores
    labeled_image("low_over_high.jpg", *OVERLAPPING, classes=[0, 2], scores=[0.4, 0.8]),
    labeled_image("high_over_low.jpg", *OVERLAPPING, classes=[1, 1], scores=[0.8, 0.4]),
    labeled_image("full.jpg", np.ones((12, 17), dtype=bool), classes=[1]),
    labeled_image("one_pixel.jpg", boxes_mask(12, 17, (16, 11, 17, 12)), classes=[2]),
    labeled_image("empty_mask.jpg", boxes_mask(12, 17), boxes_mask(12, 17, (3, 4, 9, 9)), classes=[0, 1]),
    labeled_image("none.jpg"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset where torchvision looks for it."""
    home = tmp_path_factory.mktemp("voc") / "VOCdevkit" / "VOC2012"
    folders = ("Annotations", "SegmentationClass", "SegmentationObject", "ImageSets/Main", "ImageSets/Segmentation")
    for folder in folders:
        (home / folder).mkdir(parents=True)
    for record in RECORDS:
        stem = Path(record.image_id).stem
        write_image(home / "JPEGImages" / record.image_id, record)
        (home / "Annotations" / f"{stem}.xml").write_text(voc_xml(record, record.image_id, NAMES), encoding="utf-8")
        masks = voc_masks(record, len(NAMES))
        assert masks.beyond == 0
        (home / "SegmentationClass" / f"{stem}.png").write_bytes(masks.classes)
        (home / "SegmentationObject" / f"{stem}.png").write_bytes(masks.objects)
    for folder in folders[-2:]:
        (home / folder / "train.txt").write_text(voc_image_set(record.image_id for record in RECORDS))
    (home / "labelmap.txt").write_text(voc_label_map(NAMES), encoding="utf-8")
    return home


def shown(record: ImageRecord) -> list:
    return [each for each in record.instances if each.area]


def visible(record: ImageRecord) -> dict[int, np.ndarray]:
    """Number of an object -> its mask without what a better one covers, painted by hand."""
    canvas = np.zeros((record.height, record.width), dtype=int)
    for number, instance in sorted(enumerate(shown(record), start=1), key=lambda pair: pair[1].score):
        canvas[rle_to_mask(instance.rle)] = number
    return {number: canvas == number for number in range(1, len(shown(record)) + 1)}


def test_overlap_shows_the_better_one() -> None:
    low, high = RECORDS[:2]
    for record, best in ((low, 2), (high, 1)):
        objects = np.asarray(Image.open(io.BytesIO(voc_masks(record, 3).objects)))
        assert objects[15, 15] == best  # inside both
        assert np.unique(objects).tolist() == [0, 1, 2]
    assert np.asarray(Image.open(io.BytesIO(voc_masks(low, 3).classes)))[15, 15] == 3  # class id + 1


def test_own_readers(dataset: Path) -> None:
    boxes = {image.name: image for image in read_voc(dataset / "Annotations").images}
    truth = read_voc(dataset / "Annotations")
    masks = {image.name: image for image in read_mask_images(dataset).images}
    assert read_mask_images(dataset).class_names == tuple(NAMES)
    for record in RECORDS:
        found = boxes[record.image_id].instances
        assert [truth.class_names[each.class_id] for each in found] == [NAMES[each.class_id] for each in shown(record)]
        assert [each.box_xyxy for each in found] == [rle_box_xyxy(each.rle) for each in shown(record)]
        by_class: dict[int, np.ndarray] = {}
        for number, mask in visible(record).items():
            class_id = shown(record)[number - 1].class_id
            by_class[class_id] = by_class.get(class_id, False) | mask
        image = masks[record.image_id.replace(".jpg", ".png")]
        assert {each.class_id for each in image.instances} == set(by_class)
        for each in image.instances:
            np.testing.assert_array_equal(rle_to_mask(each.rle), by_class[each.class_id])


def test_torchvision(dataset: Path) -> None:
    voc = pytest.importorskip("torchvision.datasets")
    home = dataset.parent.parent
    for record, (image, target), (_, mask) in zip(
        RECORDS, voc.VOCDetection(home), voc.VOCSegmentation(home), strict=True
    ):
        annotation = target["annotation"]
        assert image.size == mask.size == (record.width, record.height)
        assert annotation["filename"] == record.image_id
        assert annotation["size"] == {"width": str(record.width), "height": str(record.height), "depth": "3"}
        assert [each["name"] for each in annotation["object"]] == [NAMES[each.class_id] for each in shown(record)]
        expected = np.zeros((record.height, record.width), dtype=int)
        for number, own in visible(record).items():
            expected[own] = shown(record)[number - 1].class_id + 1
        np.testing.assert_array_equal(np.asarray(mask), expected)


def test_supervision(dataset: Path) -> None:
    sv = pytest.importorskip("supervision")
    found = sv.DetectionDataset.from_pascal_voc(str(dataset / "JPEGImages"), str(dataset / "Annotations"))
    for record in RECORDS:
        read = found.annotations[str(dataset / "JPEGImages" / record.image_id)]
        assert read.xyxy.tolist() == [list(rle_box_xyxy(each.rle)) for each in shown(record)]
        names = [found.classes[class_id] for class_id in read.class_id] if len(read) else []
        assert names == [NAMES[each.class_id] for each in shown(record)]


def test_datumaro(dataset: Path) -> None:
    datumaro = pytest.importorskip("datumaro")
    found = datumaro.Dataset.import_from(str(dataset), "voc_instance_segmentation")
    names = [label.name for label in found.categories()[datumaro.AnnotationType.label].items]
    assert names[:4] == ["background", *NAMES]
    for record in RECORDS:
        item = found.get(Path(record.image_id).stem, "train")
        masks = {each.group: each for each in item.annotations if each.type == datumaro.AnnotationType.mask}
        assert set(masks) == set(visible(record))
        for number, own in visible(record).items():
            np.testing.assert_array_equal(masks[number].image.astype(bool), own)
            assert names[masks[number].label] == NAMES[shown(record)[number - 1].class_id]


def test_more_objects_than_a_mask_can_number() -> None:
    single = [boxes_mask(20, 20, (n % 20, n // 20, n % 20 + 1, n // 20 + 1)) for n in range(260)]
    record = labeled_image("many.jpg", *single)
    masks = voc_masks(record, 1)
    assert masks.beyond == 6
    values, counts = np.unique(np.asarray(Image.open(io.BytesIO(masks.objects))), return_counts=True)
    assert (values.tolist(), counts[-1]) == ([*range(256)], 6)  # 255 is ignored by readers
    assert voc_xml(record, "many.jpg", ["a"]).count("<object>") == 260


def test_palette_is_that_of_the_development_kit() -> None:
    """The first colours, as its documentation lists them, and one of the ignored border."""
    assert voc_palette()[[0, 1, 2, 3, 8, 15, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [64, 0, 0], [192, 128, 128], [224, 224, 192]
    ]  # fmt: skip
    assert len(np.unique(voc_palette(), axis=0)) == 256


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: voc_label_map(["a:b"]), "class 'a:b'"),
        (lambda: voc_label_map(["a", "b\nc"]), "rename the class"),
        (lambda: voc_xml(RECORDS[0], "a\x01.jpg", NAMES), "XML cannot hold the character"),
        (lambda: voc_xml(RECORDS[0], "a.jpg", NAMES[:2]), "class id 2, but there are 2 classes"),
        (lambda: voc_masks(RECORDS[0], 255), "hold 254 classes, not 255"),
    ],
)
def test_what_the_format_cannot_express(write: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        write()  # type: ignore[operator]
    assert "\n" not in str(caught.value)
