"""Names of images in flat and nested datasets, and that they stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import supervision as sv

from labeler.errors import RunError
from labeler.files.images import content_digest
from tests.support.run_folders import ONTOLOGY, coco, instance, make_run, write_labels
from tests.support.run_settings import run_settings
from workflows.dataset.export import export
from workflows.dataset.labeled import Labeled
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

NAMES = ["a.png", "day/a.png", "day_a.png", "night/deep/b.jpg", "images/c.png"]
DOG = (instance(0, 0.8, 0),)


def all_train(layout: str | None = None, link: str = "hard") -> ExportConfig:
    return ExportConfig(val_share=0, layout=layout, link=link)


def images(run: RunFolder) -> set[str]:
    home = run.output / "images" / "train"
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


def test_a_new_dataset_is_flat_and_supervision_reads_all_of_it(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, NAMES, DOG)
    export(run, root, ONTOLOGY, all_train())
    found = images(run)
    assert len(found) == len(NAMES)
    assert {"a.png", "day_a.png", "night_deep_b.jpg", "images_c.png"} < found  # one of two has a hash in its name
    assert {entry["file_name"] for entry in coco(run)["images"]} == found
    data = run.output / "images" / "train", run.output / "labels" / "train", run.output / "data.yaml"
    read = sv.DetectionDataset.from_yolo(*map(str, data))
    assert len(read) == len(NAMES)
    assert all(len(each) == 1 for each in read.annotations.values())
    digests = {name: content_digest((root / name).read_bytes()) for name in NAMES}
    shutil.rmtree(root)
    labeled = Labeled(run, root, ONTOLOGY, all_train(), run_settings(root))
    assert {name: labeled.image(name, digest).digest for name, digest in digests.items()} == digests


def test_a_dataset_keeps_its_layout(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, NAMES[:2], DOG)
    for layout in ("nested", None):
        export(run, root, ONTOLOGY, all_train(layout))
        assert images(run) == {"a.png", "day/a.png"}
    write_labels(run, root, NAMES[:2], DOG)
    make_run(tmp_path, ["new/x.png"], DOG)
    write_labels(run, root, [*NAMES[:2], "new/x.png"], DOG)
    export(run, root, ONTOLOGY, all_train())
    assert images(run) == {"a.png", "day/a.png", "new/x.png"}


@pytest.mark.parametrize("link", ["hard", "none"])
@pytest.mark.parametrize(("first", "then"), [("nested", "flat"), ("flat", "nested")])
def test_another_layout_is_refused_until_the_files_are_gone(first: str, then: str, link: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, NAMES[:2], DOG)
    export(run, root, ONTOLOGY, all_train(first, link))
    before = {path: path.read_bytes() for path in run.output.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=f"has the {first} layout.*first move images and labels") as caught:
        export(run, root, ONTOLOGY, all_train(then, link))
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in run.output.rglob("*") if path.is_file()} == before
    for folder in ("images", "labels"):
        shutil.rmtree(run.output / folder, ignore_errors=True)
    export(run, root, ONTOLOGY, all_train(then, link))
    labels = {path.name if then == "flat" else path.relative_to(run.output / "labels" / "train").as_posix()
              for path in run.output.glob("labels/train/**/*.txt")}  # fmt: skip
    assert labels == ({"a.txt", "day_a.txt"} if then == "flat" else {"a.txt", "day/a.txt"})


def test_flat_names_stay_when_images_come_and_go(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["day/a.png"], DOG)
    export(run, root, ONTOLOGY, all_train())
    assert images(run) == {"day_a.png"}
    make_run(tmp_path, ["day_a.png"], DOG)
    write_labels(run, root, ["day_a.png", "day/a.png"], DOG)
    export(run, root, ONTOLOGY, all_train())
    (other,) = images(run) - {"day_a.png"}
    assert (run.output / "images/train/day_a.png").samefile(root / "day/a.png")
    assert (run.output / "images/train" / other).samefile(root / "day_a.png")
