"""``--image-files keep|convert``: images that tools see other than they were labeled become PNG; nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image

from labeler.errors import RunError, UsageError
from labeler.files.image_config import ImageConfig
from labeler.files.images import ImageFile, content_digest
from labeler.files.storage import locate, read_bytes, write_bytes
from labeler.geometry.masks import mask_to_rle, rle_area
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from tests.support.object_store import Bucket, Proxy, files_below
from tests.support.opened_images import by_supervision, by_supervision_yolo, by_ultralytics
from tests.support.reader_files import FILES, write_files
from tests.support.run_folders import ONTOLOGY
from tests.support.run_settings import run_settings
from workflows.dataset.export import export
from workflows.dataset.export_summary import ExportSummary
from workflows.dataset.labeled import Labeled
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

KEEP = ExportConfig(val_share=0, formats=("coco", "yolo"), link="copy")
CONVERT = replace(KEEP, image_files="convert")
EVERYWHERE = ("coco", "yolo", "roboflow", "voc", "semantic", "hf", "webdataset")
AUTO = {"intensity": "auto"}
TURNED = Image.Exif()
TURNED[0x0112] = 6
NAMES = ("day/turned.jpg", "deep.PNG", "plain.jpg", "film.gif", "alpha.png", "turned.jpeg")


def write_image(path: Path, number: int = 0) -> None:
    """An image of 60 x 40 pixels, or turned; what kind of one follows from its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((40, 60, 3), number * 9 % 256, np.uint8)
    pixels[:20, :30] = 250, 120, 7
    image = Image.fromarray(pixels)
    if path.stem == "turned":
        image.save(path, exif=TURNED)
    elif path.stem == "deep":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 13).save(path)
    elif path.stem == "alpha":
        image.putalpha(Image.fromarray(pixels[..., 0]))
        image.save(path)
    else:
        image.save(path)


def write_labels(run: RunFolder, root: Path, names: tuple[str, ...]) -> None:
    """A record for each image, with one dog that leaves a margin."""
    records = []
    for name in names:
        width, height = ImageFile(root / name).size()
        mask = np.zeros((height, width), bool)
        mask[2:-2, 2:-2] = True
        rle = mask_to_rle(mask)
        dog = Instance(0, "dog", (2.0, 2.0, width - 2.0, height - 2.0), 0.9, 0.9, 0.9, rle_area(rle), rle)
        digest = content_digest((root / name).read_bytes())
        records.append(ImageRecord(name, width, height, digest, instances=(dog,)))
    write_records(run.records / "000000.parquet", records)


def make(folder: Path, names: tuple[str, ...] = NAMES) -> tuple[RunFolder, Path]:
    root, run = folder / "in", RunFolder(folder / "out")
    for number, name in enumerate(names):
        write_image(root / name, number)
    with run.locked():
        run.begin(run_settings(root, labeling=AUTO), restart=False)
    write_labels(run, root, names)
    return run, root


@pytest.fixture
def labeled(tmp_path: Path) -> tuple[RunFolder, Path]:
    return make(tmp_path)


def images(run: RunFolder) -> dict[str, bytes]:
    home = run.output / "images" / "train"
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def dataset(output: Path) -> Mapping[str, bytes]:
    paths = {path.relative_to(output).as_posix(): path for path in output.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in paths.items() if not name.startswith("run/")}


def exported_anew(run: RunFolder, root: Path, config: ExportConfig) -> tuple[Mapping[str, bytes], ExportSummary]:
    """The dataset and summary of a full export of the same records."""
    full = RunFolder(run.output.with_name("full"))
    shutil.rmtree(full.output, ignore_errors=True)
    shutil.copytree(run.records, full.records)
    shutil.copy(run.path / "run.json", full.path / "run.json")
    summary = export(full, root, ONTOLOGY, config)
    return dataset(full.output), summary


def test_tools_open_the_labeled_pixels(tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    root, run, names = tmp_path / "in", RunFolder(tmp_path / "out"), tuple(sorted(FILES))
    write_files(root)
    Image.fromarray(np.full((48, 64), 3000, np.uint16)).save(root / "odd.tif")
    names += ("odd.tif",)
    with run.locked():
        run.begin(run_settings(root, labeling=AUTO), restart=False)
    write_labels(run, root, names)
    summary = export(run, root, ONTOLOGY, replace(CONVERT, formats=("coco", "yolo"), layout="flat"))
    labeled = Labeled(run, root, ONTOLOGY, CONVERT, run_settings(root, ONTOLOGY))
    paths = {str(path): record for record in labeled.records() if (path := labeled.image_path(record))}
    assert len(paths) == len(names)
    home = run.output
    coco = home / "annotations" / "instances_train.json"
    for tool, opened in {
        "Ultralytics": by_ultralytics(home),
        "supervision (YOLO)": by_supervision_yolo(home),
        "supervision (COCO)": by_supervision(sv.DetectionDataset.from_coco(str(home / "images/train"), str(coco))),
    }.items():
        small = {"wide_9.png", "high_9.png"} if tool == "Ultralytics" else set()
        assert {paths[path].image_id for path in opened} == set(names) - small
        assert summary.seen[tool] == len(names) - len(small)
        for path, pixels in opened.items():
            record = paths[path]
            wanted = ImageFile(root / record.image_id).read().pixels
            is_jpeg = path.endswith((".jpg", ".jpeg", ".JPG", ".mpo", ".webp"))
            assert pixels.shape == wanted.shape
            assert np.abs(pixels.astype(int) - wanted).mean() < (2 if is_jpeg else 1e-9), (tool, path)
    lines = "\n".join(summary.sights)
    assert "supervision (COCO), torchvision, supervision (YOLO), RF-DETR (YOLO): each sees all" in lines
    assert f"Ultralytics sees {len(names) - 2} of {len(names)} images (2 smaller than 10 pixels)" in lines
    assert summary.converted[".gif"] == 1
    assert summary.converted["not turned upright"] == 3
    assert summary.converted["high byte of 16 bits per channel"] == 4
    assert not any("pixels" in cause for cause in summary.converted)


@pytest.mark.parametrize(("layout", "link"), [("flat", "hard"), ("nested", "copy"), ("flat", "symlink")])
def test_there_and_back(layout: str, link: str, labeled: tuple[RunFolder, Path]) -> None:
    """Each export equals a full one, nothing is set aside, and labels keep their names."""
    run, root = labeled
    keep = replace(KEEP, formats=EVERYWHERE, layout=layout, link=link)
    convert = replace(keep, image_files="convert")
    labels = None
    for config in (keep, convert, convert, keep):
        summary = export(run, root, ONTOLOGY, config)
        files, wanted = exported_anew(run, root, config)
        assert dataset(run.output) == files
        assert (summary.set_aside, summary.edited, summary.restored, summary.failures) == ([], [], [], [])
        assert (summary.converted, summary.sights) == (wanted.converted, wanted.sights)
        names = {name for name in files if name.startswith("labels/")}
        assert names == (labels or names)
        labels = names
        assert all((root / name).exists() for name in NAMES)
    day = "day/" if layout == "nested" else "day_"
    assert set(images(run)) == {f"{day}turned.jpg", "deep.PNG", "plain.jpg", "film.png", "alpha.png", "turned.jpeg"}
    export(run, root, ONTOLOGY, convert)
    assert set(images(run)) == {f"{day}turned.png", "deep.PNG", "plain.jpg", "film.png", "alpha.png", "turned.png"}
    assert images(run)["plain.jpg"] == (root / "plain.jpg").read_bytes()


def test_names_stay_when_images_come(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, CONVERT)
    before = images(run)
    more = ("turned.png", "day_turned.jpg", *NAMES)  # with the names that two have as PNG
    for name in more[:2]:
        Image.new("RGB", (60, 40), "red").save(root / name)
    write_labels(run, root, more)
    export(run, root, ONTOLOGY, CONVERT)
    now = images(run)
    assert {name: now[name] for name in before} == before
    assert len(now) == len(more)
    assert len({Path(name).stem for name in now}) == len(more)


@pytest.mark.parametrize(("first", "then"), [(KEEP, CONVERT), (CONVERT, KEEP)])
def test_an_image_whose_original_is_gone_stays_as_it_is(
    first: ExportConfig, then: ExportConfig, labeled: tuple[RunFolder, Path]
) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, first)
    before, splits = images(run), ExportConfig(val_share=0.5)
    shutil.rmtree(root)
    for cache in (run.path / "export-cache").iterdir():  # also if the traits of the original are not known any more
        cache.unlink()
    for config in (then, replace(then, val_share=splits.val_share), then):
        summary = export(run, root, ONTOLOGY, config)
        assert (summary.set_aside, summary.missing, summary.failures) == ([], [], [])
        assert images(run) == before
    assert not (run.path / "set-aside").exists()


def test_an_image_that_changed_since_is_not_dropped(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, KEEP)
    before = images(run)
    for name in NAMES:
        Image.new("RGB", (60, 40), "blue").save(root / name)
    assert export(run, root, ONTOLOGY, CONVERT).failures == []
    assert images(run) == before


def test_what_the_user_edited_or_moved_stays(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    home = run.output / "images" / "train"
    export(run, root, ONTOLOGY, CONVERT)
    Image.new("RGB", (40, 60), "white").save(home / "turned.png")
    (home.parent / "val").mkdir()
    (home / "day_turned.png").rename(home.parent / "val" / "day_turned.png")
    mine = (home / "turned.png").read_bytes(), (home.parent / "val" / "day_turned.png").read_bytes()
    for config in (KEEP, CONVERT, KEEP):
        summary = export(run, root, ONTOLOGY, config)
        assert summary.edited == ["images/train/turned.png"]
        assert (home / "turned.png").read_bytes() == mine[0]
        assert (home.parent / "val" / "day_turned.png").read_bytes() == mine[1]
        assert not list(home.glob("*turned.jp*g"))
        assert [path.name for path in (run.output / "labels" / "val").iterdir()] == ["day_turned.txt"]
    summary = export(run, root, ONTOLOGY, KEEP, overwrite_edits=True)
    assert (home / "turned.jpeg").read_bytes() == (root / "turned.jpeg").read_bytes()
    assert not (home / "turned.png").exists()


@pytest.mark.parametrize("link", ["copy", "hard", "symlink"])
@pytest.mark.parametrize("in_place", [True, False])
def test_images_that_the_user_replaced(link: str, in_place: bool, labeled: tuple[RunFolder, Path]) -> None:
    """What is converted follows the new content, and old content of the same input is not kept."""
    run, root = labeled
    config = replace(CONVERT, link=link)
    export(run, root, ONTOLOGY, config)
    for name in ("turned.jpeg", "plain.jpg", "deep.PNG"):
        if not in_place:
            (root / name).unlink()
        exif = TURNED if name == "plain.jpg" else Image.Exif()
        image = Image.new("RGB", (60, 40), "green")
        with open(root / name, "r+b" if in_place else "wb") as file:
            image.save(file, "PNG" if name == "deep.PNG" else "JPEG", exif=exif)
            file.truncate()
    write_labels(run, root, NAMES)
    summary = export(run, root, ONTOLOGY, config)
    assert (summary.set_aside, summary.edited, summary.failures) == ([], [], [])
    assert set(images(run)) == {"day_turned.png", "deep.PNG", "plain.png", "film.png", "alpha.png", "turned.jpeg"}
    assert images(run) == {
        name.removeprefix("images/train/"): data
        for name, data in exported_anew(run, root, config)[0].items()
        if name.startswith("images/")
    }


def test_a_last_copy_of_another_input_is_set_aside(labeled: tuple[RunFolder, Path], tmp_path: Path) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, KEEP)
    old = content_digest((root / "turned.jpeg").read_bytes())
    root.rename(tmp_path / "was")
    make(tmp_path / "other")
    shutil.rmtree(tmp_path / "was")
    write_image(tmp_path / "other" / "in" / "turned.jpeg", 77)
    write_labels(run, tmp_path / "other" / "in", NAMES)
    summary = export(run, tmp_path / "other" / "in", ONTOLOGY, CONVERT)
    assert summary.set_aside == ["images/train/turned.jpeg"]
    assert old in {content_digest(path.read_bytes()) for path in (run.path / "set-aside").rglob("*.jpeg")}


def test_another_intensity_makes_other_pixels(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    for intensity in ("auto", "minmax", "full"):
        reading = ImageConfig(intensity=intensity)  # type: ignore[arg-type]
        run.settings.write(run_settings(root, labeling={"intensity": intensity}))
        export(run, root, ONTOLOGY, CONVERT)
        wanted = ImageFile(root / "deep.PNG", config=reading).read().pixels
        assert (ImageFile(run.output / "images/train/deep.PNG").read().pixels == wanted).all()


def test_a_dataset_without_images_has_nothing_to_convert() -> None:
    with pytest.raises(UsageError, match="link none: the dataset holds no images that could be converted"):
        ExportConfig(link="none", image_files="convert")


def test_a_store_is_asked_for_each_header_once(bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    names = ("turned.jpeg", "deep.PNG", "plain.jpg")
    run, root = make(tmp_path, names)
    for name in names:
        bucket.put(f"in/{name}", (root / name).read_bytes())
    config, there = replace(CONVERT, formats=("coco",)), locate(f"{bucket.uri}/in")
    summary = export(run, there, ONTOLOGY, config)
    assert summary.converted == {"high byte of 16 bits per channel": 1, "not turned upright": 1}
    assert summary.seen == {"supervision (COCO)": 3, "torchvision": 3}
    asked = [path.rpartition("/")[2] for method, path in proxy.log if method == "GET" and "/in/" in path]
    assert sorted(asked) == ["deep.PNG", "deep.PNG", *["plain.jpg"] * 2, *["turned.jpeg"] * 2]  # header, then content
    proxy.log.clear()
    before = images(run)
    assert export(run, there, ONTOLOGY, config).sights == summary.sights
    for cache in (run.path / "export-cache").iterdir():
        cache.unlink()
    unasked = export(run, there, ONTOLOGY, config, root_is_named=False)
    assert (unasked.sights, unasked.converted) == (summary.sights, {"of an earlier export": 2})
    with pytest.raises(RunError, match="add --images"):
        export(run, there, ONTOLOGY, replace(config, image_files="keep"), root_is_named=False)
    assert images(run) == before
    assert not [path for method, path in proxy.log if method == "GET" and "/in/" in path]


def test_memory_as_input_and_output(tmp_path: Path) -> None:
    _, root = make(tmp_path)
    place = f"memory://{tmp_path.name}"
    output, there = locate(f"{place}/out"), locate(f"{place}/in")
    for name in NAMES:
        write_bytes(there / name, (root / name).read_bytes())
    run = RunFolder(output)
    with run.locked():
        run.begin(run_settings(there, labeling=AUTO), restart=False)
    write_bytes(run.records / "000000.parquet", (tmp_path / "out/run/records/000000.parquet").read_bytes())
    summary = export(run, there, ONTOLOGY, CONVERT)
    local = RunFolder(tmp_path / "out")
    wanted = export(local, root, ONTOLOGY, CONVERT)
    assert (summary.sights, summary.converted) == (wanted.sights, wanted.converted)
    assert read_bytes(output / "images/train/turned.png") == images(local)["turned.png"]
    assert export(run, there, ONTOLOGY, KEEP).set_aside == []
    assert read_bytes(output / "images/train/turned.jpeg") == (root / "turned.jpeg").read_bytes()
    export(run, there, ONTOLOGY, CONVERT)
    assert {name for name in files_below(output) if name.startswith("images/")} == {
        f"images/train/{name}"
        for name in ("day_turned.png", "deep.PNG", "plain.jpg", "film.png", "alpha.png", "turned.png")
    }
