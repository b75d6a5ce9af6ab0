from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from labeler.errors import UsageError
from labeler.formats.mask_images import read_mask_images
from labeler.formats.semantic import semantic_label_map, semantic_png, semantic_yaml
from labeler.geometry.masks import mask_to_rle, rle_to_mask
from labeler.records import ImageRecord
from tests.support.labeled_image import boxes_mask, labeled_image, write_image

NAMES = ["cat", "großer Hund, braun", "third"]
OVERLAPPING = [
    boxes_mask(30, 40, (2, 2, 22, 20)),
    boxes_mask(30, 40, (10, 10, 39, 29)),
    boxes_mask(30, 40, (0, 0, 40, 3)),
]
RECORDS = [
    labeled_image("a.jpg", *OVERLAPPING, classes=[0, 2, 1], scores=[0.4, 0.8, 0.1]),
    labeled_image("sub/b.jpg", *OVERLAPPING, classes=[0, 2, 1], scores=[0.8, 0.4, 0.8]),
    labeled_image("empty_mask.jpg", boxes_mask(30, 40), OVERLAPPING[0], classes=[0, 1]),
    labeled_image("none.jpg"),
]


def by_hand(record: ImageRecord) -> np.ndarray:
    """Painted from the worst score to the best; of equal ones, the first is on top."""
    canvas = np.zeros((record.height, record.width), dtype=np.uint8)
    from_last = record.instances[::-1]
    for instance in sorted(from_last, key=lambda each: each.joint_score):
        canvas[rle_to_mask(instance.rle)] = instance.class_id + 1
    return canvas


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("semantic")
    for record in RECORDS:
        write_image(home / "images" / "train" / record.image_id, record)
        mask = (home / "masks" / "train" / record.image_id).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.write_bytes(semantic_png(record, len(NAMES)))
    (home / "masks" / "labelmap.txt").write_text(semantic_label_map(NAMES), encoding="utf-8")
    (home / "semantic.yaml").write_text(semantic_yaml(NAMES, {"train": "train", "val": "train"}), encoding="utf-8")
    return home


def test_values(dataset: Path) -> None:
    for record in RECORDS:
        image = Image.open((dataset / "masks" / "train" / record.image_id).with_suffix(".png"))
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), by_hand(record))
    first, second = by_hand(RECORDS[0]), by_hand(RECORDS[1])
    assert (first[15, 15], second[15, 15], first[2, 5], second[2, 5]) == (3, 1, 1, 1)


def test_own_reader(dataset: Path) -> None:
    truth = read_mask_images(dataset / "masks" / "train")
    assert truth.class_names == tuple(NAMES)
    found = {Path(image.name).stem: image for image in truth.images}
    for record in RECORDS:
        expected = by_hand(record)
        present = [value for value in np.unique(expected).tolist() if value]
        image = found[Path(record.image_id).stem]
        assert [(each.class_id, each.rle) for each in image.instances] == [
            (value - 1, mask_to_rle(expected == value)) for value in present
        ]


def test_ultralytics(dataset: Path) -> None:
    utils = pytest.importorskip("ultralytics.data.utils")
    from ultralytics.data.dataset import SemanticDataset
    from ultralytics.utils import DEFAULT_CFG, LOGGER

    LOGGER.setLevel(logging.ERROR)
    data = utils.check_det_dataset(str(dataset / "semantic.yaml"), autodownload=False)
    assert data["names"] == dict(enumerate(["background", *NAMES]))
    found = SemanticDataset(
        img_path=data["train"], data=data, task="semantic", augment=False, imgsz=40, hyp=DEFAULT_CFG
    )
    assert len(found.labels) == len(RECORDS)
    for index, path in enumerate(found.im_files):
        record = next(each for each in RECORDS if path.endswith(f"/train/{each.image_id}"))
        np.testing.assert_array_equal(found.load_mask(index), by_hand(record))


def test_torchvision(dataset: Path) -> None:
    """A segmentation model's loss takes the values as they are: one channel per name of the YAML file."""
    torch = pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    names = yaml.safe_load((dataset / "semantic.yaml").read_text(encoding="utf-8"))["names"]
    target = transforms.pil_to_tensor(Image.open(dataset / "masks" / "train" / "a.png")).long()
    loss = torch.nn.functional.cross_entropy(torch.zeros(1, len(names), 30, 40), target, ignore_index=255)
    assert float(loss) == pytest.approx(np.log(len(names)))


def test_what_the_format_cannot_express() -> None:
    with pytest.raises(UsageError, match="hold 254 classes, not 255; use another format"):
        semantic_png(RECORDS[0], 255)
    with pytest.raises(UsageError, match=r"a\.jpg: class id 2, but there are 2 classes"):
        semantic_png(RECORDS[0], 2)
    for name in ("a\nb", "a: b", "#a", "", "Background"):
        with pytest.raises(UsageError, match="rename the class"):
            semantic_label_map(["a", name])
