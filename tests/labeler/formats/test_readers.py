"""The table of what each tool sees, against the tools themselves on files of many kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image
from torchvision.datasets import CocoDetection, VOCDetection

from labeler.files.images import ImageFile
from labeler.formats.image_traits import Depth, ImageTraits, as_png, read_traits
from labeler.formats.readers import (
    HUGGING_FACE,
    READERS,
    RF_DETR,
    RF_DETR_YOLO,
    SUPERVISION_COCO,
    SUPERVISION_YOLO,
    TORCHVISION,
    TORCHVISION_VOC,
    ULTRALYTICS,
    Reader,
    helped_by,
    kind_of,
    readers_of,
)
from labeler.formats.sights import Sight
from tests.support.opened_images import Pixels, by_supervision, by_supervision_yolo, by_ultralytics
from tests.support.reader_files import FILES, OPAQUE, write_files

# What the installed versions read beyond the table, which also holds for older ones, and without a plugin for HEIF.
NEWER: Mapping[Reader, set[str]] = {
    ULTRALYTICS: {"a.avif", "a.jp2", "phone.heic"},
    SUPERVISION_YOLO: {"gif_called.jpg"},
    SUPERVISION_COCO: {"a.gif", "gif_called.jpg", "a.avif"},
    **{each: {"a.avif", "phone.heic"} for each in (TORCHVISION, RF_DETR, HUGGING_FACE)},
    TORCHVISION_VOC: set(),
    RF_DETR_YOLO: set(),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of images, as YOLO and as one COCO file per image."""
    home = tmp_path_factory.mktemp("readers")
    write_files(home / "images" / "train")
    for name in FILES:
        label = (home / "labels" / "train" / name).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.1 0.1 0.1 0.9 0.9 0.9\n")
    (home / "data.yaml").write_text("train: images/train\nval: images/train\nnames: {0: a}\n")
    return home


@pytest.fixture(scope="module")
def labeled(dataset: Path) -> Pixels:
    """The pixels that are labeled."""
    return {name: ImageFile(dataset / "images" / "train" / name).read().pixels for name in FILES}


def by_supervision_coco(home: Path) -> Pixels:
    folder = str(home / "images" / "train")
    return by_supervision(sv.DetectionDataset.from_coco(folder, coco_file(home)))


def by_torchvision(home: Path) -> Pixels:
    return by_pillow(home, lambda name: CocoDetection(home / "images" / "train", coco_file(home, name))[0][0])


def by_rf_detr(home: Path) -> Pixels:
    coco = pytest.importorskip("rfdetr.datasets.coco")

    def read(name: str) -> Image.Image:
        found = coco.CocoDetection(home / "images" / "train", coco_file(home, name), None, remap_category_ids=True)
        return found[0][0]

    return by_pillow(home, read)


def by_rf_detr_yolo(home: Path) -> Pixels:
    yolo = pytest.importorskip("rfdetr.datasets.yolo")
    images, labels = str(home / "images" / "train"), str(home / "labels" / "train")
    found = yolo.YoloDetection(images, labels, str(home / "data.yaml"), include_masks=True)
    return {path: pixels for path, pixels, _ in map(found.sv_dataset.__getitem__, range(len(found)))}


def by_hugging_face(home: Path) -> Pixels:
    datasets = pytest.importorskip("datasets")
    reader = datasets.Image()

    def read(name: str) -> Image.Image:
        return reader.decode_example({"path": str(home / "images" / "train" / name), "bytes": None}).convert("RGB")

    return by_pillow(home, read)


def by_torchvision_voc(home: Path) -> Pixels:
    root = home / "VOCdevkit" / "VOC2012"
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    (root / "Annotations").mkdir(exist_ok=True)
    if not (root / "JPEGImages").exists():
        (root / "JPEGImages").symlink_to(home / "images" / "train")

    def read(name: str) -> Image.Image:
        stem = str(Path(name).with_suffix(""))
        (root / "ImageSets" / "Main" / "train.txt").write_text(f"{stem}\n")
        (root / "Annotations" / f"{stem}.xml").parent.mkdir(exist_ok=True)
        (root / "Annotations" / f"{stem}.xml").write_text("<annotation><object/></annotation>")
        found = VOCDetection(home)
        if Path(found.images[0]) != root / "JPEGImages" / name:
            raise FileNotFoundError(name)
        return found[0][0]

    return by_pillow(home, read)


def by_pillow(home: Path, read: Callable[[str], Image.Image]) -> Pixels:
    opened = {}
    for name in FILES:
        try:
            opened[str(home / "images" / "train" / name)] = np.asarray(read(name))
        except OSError:
            continue
    return opened


def coco_file(home: Path, *names: str) -> str:
    """A COCO file of some images, by default of all, without objects."""
    images = [
        {"id": number, "file_name": name, "width": 64, "height": 48} for number, name in enumerate(names or FILES)
    ]
    path = home / "coco.json"
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": [], "categories": []}))
    return str(path)


@pytest.mark.parametrize(
    ("reader", "run"),
    [
        (ULTRALYTICS, by_ultralytics),
        (SUPERVISION_YOLO, by_supervision_yolo),
        (SUPERVISION_COCO, by_supervision_coco),
        (TORCHVISION, by_torchvision),
        (TORCHVISION_VOC, by_torchvision_voc),
        (RF_DETR, by_rf_detr),
        (RF_DETR_YOLO, by_rf_detr_yolo),
        (HUGGING_FACE, by_hugging_face),
    ],
    ids=lambda value: value.title if isinstance(value, Reader) else "",
)
def test_the_table_says_what_the_tool_sees(
    reader: Reader, run: Callable[[Path], Pixels], dataset: Path, labeled: Pixels
) -> None:
    folder = dataset / "images" / "train"
    opened = {str(Path(path).relative_to(folder)): pixels for path, pixels in run(dataset).items()}
    for name in sorted(FILES):
        traits = read_traits(BytesIO((folder / name).read_bytes()), name)
        assert (name in opened) == (not reader.unseen(traits) or name in NEWER[reader]), (name, reader.unseen(traits))
        if name in opened and not reader.unseen(traits):
            is_same = not reader.altered(traits) or name in OPAQUE
            assert same(opened[name], labeled[name]) == is_same, (name, reader.altered(traits))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two images show the same, but for rounding in the conversion of colours."""
    return a.shape == b.shape and float(np.abs(a.astype(int) - b).mean()) < 2


def test_traits_come_from_the_header(dataset: Path) -> None:
    def traits(name: str) -> tuple[object, ...]:
        found = read_traits(BytesIO((dataset / "images" / "train" / name).read_bytes()), name)
        return found.format, found.width, found.height, found.orientation, found.depth

    assert traits("a.png") == ("PNG", 64, 48, 1, "8")
    assert traits("gif_called.jpg") == ("GIF", 64, 48, 1, "8")
    assert traits("turned.tif") == ("TIFF", 64, 48, 6, "8")
    assert traits("zstd.tif") == ("TIFF zstd", 64, 48, 1, "8")
    assert [traits(name)[-1] for name in ("grey_16.tif", "grey_16.png", "colour_16.png", "bits_12.tif")] == [
        "grey 16", "grey 16", "colour 16", "other"
    ]  # fmt: skip


def test_summary_lines() -> None:
    images = [
        ImageTraits("a.png", "PNG", 64, 48),
        ImageTraits("b.gif", "GIF", 64, 48),
        ImageTraits("c.gif", "GIF", 64, 48),
        ImageTraits("d.png", "PNG", 64, 9),
        ImageTraits("e.png", "PNG", 64, 48, depth="grey 16"),
    ]
    sights = [Sight(ULTRALYTICS), Sight(TORCHVISION)]
    for sight in sights:
        for image in images:
            sight.add(image)
    assert [sight.line() for sight in sights] == [
        "Ultralytics sees 2 of 5 images (2 .gif, 1 smaller than 10 pixels); other than labeled: 1 high byte of 16 bits "
        "per channel",
        "torchvision sees 5 of 5 images; other than labeled: 1 white, of more than 8 bits per channel",
    ]
    assert Sight(RF_DETR).line() == "RF-DETR sees 0 of 0 images"


def test_readers_see_all_images_of_one_kind_alike() -> None:
    rng = np.random.default_rng(0)
    names = ["a.png", "b.png", "c/a.png", ".a.png", "a.PNG", "a.gif", "b.gif", "a", "c/.a.jpg", "x/y.jpg", "x.y.jpg"]
    formats = ["PNG", "JPEG", "TIFF", "TIFF zstd", "GIF", "HEIF", "PPM"]
    depths: list[Depth] = ["8", "grey 16", "colour 16", "other"]
    of_kind: dict[tuple[object, ...], set[tuple[str, ...]]] = {}
    for _ in range(5000):
        width, height = rng.choice([1, 9, 10, 11, 640], 2).tolist()
        name, kind, depth = (each[int(rng.integers(len(each)))] for each in (names, formats, depths))
        image = ImageTraits(name, kind, width, height, int(rng.choice([1, 3, 6])), depth, bool(rng.integers(2)))
        seen = tuple(f"{each.unseen(image)};{each.altered(image)}" for each in readers_of(READERS))
        helped = tuple(helped_by(each, image, as_png(image)) for each in readers_of(READERS))
        of_kind.setdefault(kind_of(image), set()).add((*seen, *helped))
    assert len(of_kind) > 500
    assert all(len(answers) == 1 for answers in of_kind.values())


def test_each_tool_is_named_once() -> None:
    assert readers_of(["yolo", "yolo-detect", "cutouts"]) == [ULTRALYTICS, SUPERVISION_YOLO, RF_DETR_YOLO]
    assert readers_of(["coco", "roboflow"]) == [SUPERVISION_COCO, TORCHVISION, RF_DETR]


HIGH, WHITE = "high byte of 16 bits per channel", "white, of more than 8 bits per channel"


@pytest.mark.parametrize(
    ("name", "format", "more", "why"),
    [
        # file    format   traits                 why it is converted for Ultralytics and RF-DETR
        ("a.png", "PNG", {}, ("", "")),
        ("a.gif", "GIF", {}, (".gif", "")),
        ("a.heic", "HEIF", {}, (".heic", "HEIF")),
        ("a.jpg", "JPEG", {"orientation": 6}, ("", "not turned upright")),
        ("a.tif", "TIFF", {"depth": "other"}, ("12, 32 or float bits per channel", WHITE)),
        ("a.png", "PNG", {"depth": "grey 16"}, (HIGH, WHITE)),
        ("a.png", "PNG", {"has_alpha": True}, ("without the alpha channel",) * 2),
        ("a.gif", "GIF", {"height": 9}, ("", "")),
    ],
)
def test_what_a_conversion_helps(name: str, format: str, more: dict, why: tuple[str, str]) -> None:
    image = ImageTraits(**{"file_name": name, "format": format, "width": 20, "height": 30, **more})
    assert tuple(helped_by(reader, image, as_png(image)) for reader in (ULTRALYTICS, RF_DETR)) == why


def test_a_converted_file_has_the_traits_of_a_conversion(dataset: Path, labeled: Pixels) -> None:
    for name in FILES:
        traits = read_traits(BytesIO((dataset / "images" / "train" / name).read_bytes()), name)
        file = BytesIO()
        Image.fromarray(labeled[name]).save(file, "PNG")
        file.seek(0)
        assert as_png(traits) == read_traits(file, str(Path(name).with_suffix(".png")))
