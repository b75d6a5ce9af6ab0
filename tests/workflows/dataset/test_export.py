from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import yaml
from PIL import Image

from labeler.decisions import Decision
from labeler.errors import RunError
from labeler.formats.cutout_config import CutoutConfig
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from labeler.records import ImageRecord
from ontologies import ClassSpec, Ontology
from tests.support.run_folders import ONTOLOGY, coco, instance, make_run, write_labels
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.export import export
from workflows.settings.export import ExportConfig

DATASET = {"README.md", "annotations", "data.yaml", "images", "labels", "run"}


def test_verdicts_reasons_and_class_thresholds(tmp_path: Path) -> None:
    candidates = (instance(0, 0.8, 0), instance(0, 0.31, 20), instance(1, 0.55, 40), instance(0, 0.1, 40))
    run, root = make_run(tmp_path, ["a.png"], candidates)
    summary = export(run, root, ONTOLOGY, ExportConfig())
    assert summary.verdicts == {"dog": {"accept": 1, "review": 1, "reject": 1}, "cat": {"reject": 1}}
    assert summary.reasons == {"low score": 2, "uncertain": 1}
    verdicts = pandas.read_parquet(run.path / "verdicts.parquet")
    assert list(verdicts["verdict"]) == ["accept", "review", "reject", "reject"]
    assert list(verdicts["reason"]) == ["", "uncertain", "low score", "low score"]
    assert len(coco(run)["annotations"]) == 1
    export(run, root, ONTOLOGY, ExportConfig(include_review=True))
    assert len(coco(run)["annotations"]) == 2
    lowered = Ontology((ClassSpec("dog"), ClassSpec("cat", min_score=0.2)))
    export(run, root, lowered, ExportConfig())
    assert {annotation["category_id"] for annotation in coco(run)["annotations"]} == {1, 2}


def test_exporting_again_leaves_nothing_of_the_old_dataset(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, [f"{index}.png" for index in range(12)], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(val_share=0.5))
    everything = ExportConfig(val_share=0.0, quality=QualityConfig(min_score=0.9))
    summary = export(run, root, ONTOLOGY, everything, resplit=True)
    assert summary.without_objects == 12
    assert {path.name for path in run.output.iterdir()} == DATASET
    assert len(list((run.output / "images" / "train").iterdir())) == 12
    assert not list((run.output / "images").glob("val/*"))
    assert all(path.read_text() == "" for path in (run.output / "labels").rglob("*.txt"))


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_links(link: str, tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a/b.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(link=link, val_share=0, layout="nested"))
    written = run.output / "images" / "train" / "a" / "b.png"
    assert written.read_bytes() == (root / "a" / "b.png").read_bytes()
    assert written.is_symlink() == (link == "symlink")
    assert (os.stat(written).st_ino == os.stat(root / "a" / "b.png").st_ino) == (link != "copy")


def test_no_link_names_images_where_they_are(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a/b.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(link="none"))
    assert [image["file_name"] for image in coco(run)["images"]] == [str(root / "a" / "b.png")]
    assert not (run.output / "images").exists()
    assert not (run.output / "data.yaml").exists()


def test_images_of_one_stem_get_label_files_of_their_own(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.bmp", "a.png", "A.jpg", "a_2.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(val_share=0, layout="nested"))
    images = {path.name for path in (run.output / "images" / "train").iterdir()}
    labels = {path.name for path in (run.output / "labels" / "train").iterdir()}
    assert images == {"a.bmp", "a_2.png", "A_3.jpg", "a_2_2.png"}
    assert labels == {"a.txt", "a_2.txt", "A_3.txt", "a_2_2.txt"}
    assert {image["file_name"] for image in coco(run)["images"]} == images


def test_a_set_too_small_for_two_splits_still_trains(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(val_share=0))
    content = yaml.safe_load((run.output / "data.yaml").read_text())
    assert (content["train"], content["val"]) == ("images/train", "images/train")
    assert content["names"] == {0: "dog", 1: "cat"}


def test_images_gone_from_the_input_and_the_dataset_are_left_out_and_listed(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], (instance(0, 0.8, 0),))
    (root / "a.png").unlink()
    summary = export(run, root, ONTOLOGY, ExportConfig())
    assert summary.missing == ["a.png"]
    assert [image["file_name"] for image in coco(run)["images"]] == ["b.png"]


@pytest.mark.parametrize("link", ["hard", "copy"])
def test_the_dataset_outlives_its_input(link: str, tmp_path: Path) -> None:
    """Once the input is gone the dataset may hold the last copy of an image: no export may delete it."""
    run, root = make_run(tmp_path, ["a.png", "b.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(link=link, val_share=0))
    kept = {path.name: path.read_bytes() for path in (run.output / "images" / "train").iterdir()}
    shutil.rmtree(root)
    summary = export(run, root, ONTOLOGY, ExportConfig(link=link, val_share=1), resplit=True)
    assert summary.missing == []
    assert {path.name: path.read_bytes() for path in (run.output / "images" / "val").iterdir()} == kept


def test_an_export_with_no_image_left_changes_nothing(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(link="none"))
    before = (run.output / "annotations" / "instances_train.json").read_bytes()
    shutil.rmtree(root)
    with pytest.raises(RunError, match="none of the labeled images"):
        export(run, root, ONTOLOGY, ExportConfig())
    assert (run.output / "annotations" / "instances_train.json").read_bytes() == before


def test_a_failed_image_that_is_gone_is_no_failure(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], (instance(0, 0.8, 0),))
    write_records(run.records / "000001.parquet", [ImageRecord("torn.png", 0, 0, "", "error", "truncated")])
    (root / "torn.png").touch()
    assert export(run, root, ONTOLOGY, ExportConfig()).failures == [("torn.png", "truncated")]
    (root / "torn.png").unlink()
    summary = export(run, root, ONTOLOGY, ExportConfig())
    assert (summary.failures, summary.missing) == ([], ["torn.png"])


def test_decisions_on_images_that_are_left_out_are_listed(tmp_path: Path) -> None:
    """Gone, broken when labeled again, or out of the records altogether."""
    item = instance(0, 0.8, 0)
    names = ["here.png", "gone.png", "torn.png", "pruned.png"]
    run, root = make_run(tmp_path, names[:2], (item,))
    write_records(run.records / "000001.parquet", [ImageRecord("torn.png", 0, 0, "", "error", "truncated")])
    (root / "torn.png").touch()
    (root / "gone.png").unlink()
    rejects = [Decision(name, "reject", "dog", item.rle) for name in names]
    append_decisions(run, [*rejects, Decision("gone.png", "none", "cat", item.rle)])
    summary = export(run, root, ONTOLOGY, ExportConfig())
    assert summary.decided == {"reject": 1}
    assert summary.unmatched == rejects[1:]


def test_folders_named_images_do_not_draw_labels_to_them(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["images/a.png", "x/images/images.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig(val_share=0, layout="nested"))
    written = {str(path.relative_to(run.output)) for path in run.output.rglob("*.txt")}
    assert written == {"labels/train/images_/a.txt", "labels/train/x/images_/images.txt"}


def test_cut_outs(tmp_path: Path) -> None:
    """One a kept instance, by its place in the record, of the upright image; an export without them removes them."""
    candidates = (instance(0, 0.1, 20), instance(0, 0.8, 0), instance(1, 0.9, 40))
    run, root = make_run(tmp_path, ["sub/photo.jpg", "sub_photo.jpg"], candidates)
    turned = Image.new("RGB", (40, 60), (200, 0, 0))
    turned.paste((0, 0, 200), (0, 0, 40, 30))  # the left half, once it is upright
    exif = turned.getexif()
    exif[274] = 8  # a quarter turn to the left
    turned.save(root / "sub" / "photo.jpg", exif=exif, quality=100)
    write_labels(run, root, ["sub/photo.jpg", "sub_photo.jpg"], candidates)
    config = ExportConfig(formats=("coco", "cutouts"), cutouts=CutoutConfig(frame="full", smooth_radius=0))
    assert export(run, root, ONTOLOGY, config).failures == []
    names = {"sub_photo__dog__1", "sub_photo__cat__2", "sub_photo_2__dog__1", "sub_photo_2__cat__2"}
    assert {path.name for path in (run.output / "cutouts").iterdir()} == {f"{name}.png" for name in names}
    for name, left, colour in (("sub_photo__dog__1", 0, (0, 0, 200)), ("sub_photo__cat__2", 40, (200, 0, 0))):
        shown = np.asarray(Image.open(run.output / "cutouts" / f"{name}.png")).astype(int)
        assert shown.shape == (40, 60, 3)
        inside = np.zeros((40, 60), dtype=bool)
        inside[5:25, left : left + 15] = True
        assert (shown[~inside] == 255).all()
        assert np.abs(shown[6:24, left + 2 : left + 13] - colour).max() < 9  # JPEG
    export(run, root, ONTOLOGY, ExportConfig())
    assert {path.name for path in run.output.iterdir()} == DATASET


def test_an_image_that_changed_or_broke_since_has_no_cut_outs(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "broken.png", "other.png"], (instance(0, 0.8, 0),))
    (root / "broken.png").write_bytes(b"GIF89a")
    Image.new("RGB", (60, 40), "blue").save(root / "other.png")
    summary = export(run, root, ONTOLOGY, ExportConfig(formats=("coco", "cutouts"), val_share=0))
    assert [image_id for image_id, _ in summary.failures] == ["broken.png", "other.png"]
    assert "label it again" in summary.failures[1][1]
    assert [path.name for path in (run.output / "cutouts").iterdir()] == ["a__dog__0.png"]
    assert [path.name for path in (run.output / "images" / "train").iterdir()] == ["a.png"]
    assert [image["file_name"] for image in coco(run)["images"]] == ["a.png"]
