"""Splits of a labeled folder over its life: copies stay together, images stay where they are."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from labeler.errors import RunError
from labeler.formats.splits import in_validation
from tests.support.command_line import run_in_process
from tests.support.run_folders import ONTOLOGY, instance, make_run
from tests.support.stand_in import Silent, stand_in_job
from workflows.dataset.export import export
from workflows.label import label
from workflows.settings.export import ExportConfig

CONFIG = ExportConfig(val_share=0.3, test_share=0.2, link="copy", layout="nested")


def paint(path: Path, content: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (30, 20), (content * 9, 7, 200)).save(path)


def split_of(out: Path) -> dict[str, str]:
    """The split that each image file is in, by image id."""
    found = [path.relative_to(out / "images").as_posix().partition("/") for path in (out / "images").rglob("*.png")]
    assert len(found) == len({name for _, _, name in found}), "an image is in two splits"
    return {name: split for split, _, name in found}


def torn(out: Path) -> int:
    """The number of contents that are in more than one split."""
    splits: dict[bytes, set[str]] = defaultdict(set)
    for name, split in split_of(out).items():
        splits[(out / "images" / split / name).read_bytes()].add(split)
    return sum(len(each) > 1 for each in splits.values())


def summary(out: Path) -> Any:
    return json.loads((out / "run" / "summary.json").read_text())


def test_the_life_of_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_utils = pytest.importorskip("ultralytics.data.utils")
    monkeypatch.setattr(data_utils, "check_font", lambda font: None)
    images, out = tmp_path / "in", tmp_path / "out"
    for content in range(10):
        for folder in "ab":
            paint(images / folder / f"{content}.png", content)
    job = stand_in_job(images, out, export=CONFIG)
    label(job, Silent())
    first = split_of(out)
    assert set(first.values()) == {"train", "val", "test"}
    assert torn(out) == 0
    stored = pandas.read_parquet(out / "run" / "splits.parquet")
    assert dict(zip(stored["image_id"], stored["split"], strict=True)) == first

    data = yaml.safe_load((out / "data.yaml").read_text())
    assert {key: value for key, value in data.items() if key != "names"} == {
        split: f"images/{split}" for split in ("train", "val", "test")
    }
    read = data_utils.check_det_dataset(str(out / "data.yaml"))
    assert [Path(read[split]) for split in ("val", "test")] == [out / "images" / "val", out / "images" / "test"]
    for split in ("train", "val", "test"):
        coco = COCO(out / "annotations" / f"instances_{split}.json")
        assert {each["file_name"] for each in coco.imgs.values()} == {n for n, each in first.items() if each == split}

    in_val = next(name for name, split in first.items() if split == "val" and name.startswith("a/"))
    in_train = next(name for name, split in first.items() if split == "train")
    shutil.copyfile(images / in_val, images / "new copy.png")
    paint(images / in_train, 27)
    paint(images / "b" / "new.png", 28)
    label(job, Silent())
    second = split_of(out)
    assert {name: second[name] for name in first} == first
    assert second["new copy.png"] == "val"
    assert torn(out) == 0

    done = run_in_process("export", out, "--val-share", "0.6", "--test-share", "0")
    assert "--val-share and --test-share changed: this applies to new images; 22 images keep their split" in done.stdout
    assert split_of(out) == second
    done = run_in_process("export", out, "--resplit")
    third = split_of(out)
    moved = sum(second[name] != split for name, split in third.items())
    assert moved > 0
    assert f"{moved} images moved to another split" in done.stdout
    assert set(third.values()) == {"train", "val"}
    assert (torn(out), summary(out)["splits"]["moved"]) == (0, moved)
    assert not (out / "annotations" / "instances_test.json").exists()
    assert "test" not in yaml.safe_load((out / "data.yaml").read_text())


def test_the_dataset_of_an_earlier_version(tmp_path: Path) -> None:
    """There, a hash of the name decided, and the split was stored nowhere but in the place of the files."""
    names = [f"{number:02d}.png" for number in range(8)]
    images, out = tmp_path / "in", tmp_path / "out"
    for name in names:
        paint(images / name, int(name[:2]) % 4)
    before = {name: ("train", "val")[in_validation(name, 0.5, 1)] for name in names}
    label(stand_in_job(images, out, export=ExportConfig(val_share=0.5, seed=1)), Silent())
    assert torn(out) == 0
    table = out / "run" / "splits.parquet"
    _write_splits(table, before)
    run_in_process("export", out)
    table.unlink()
    assert split_of(out) == before
    done = run_in_process("export", out)
    assert split_of(out) == before
    leaks = torn(out)
    assert leaks > 0
    assert f"{leaks} groups in more than one split, so validation or test sees training images" in done.stdout
    assert "--resplit moves each into one" in done.stdout
    assert summary(out)["splits"]["leaks"]["groups"] == leaks
    assert f" leaks={leaks} " in done.stdout
    run_in_process("report", out)
    page = (out / "report.html").read_text()
    assert f'data-stat="leaks">{leaks}<' in page
    (out / "report.html").unlink()

    done = run_in_process("export", out, "--resplit")
    assert torn(out) == 0
    assert "in more than one split" not in done.stdout
    after = split_of(out)
    assert sum(before[name] != after[name] for name in names) == summary(out)["splits"]["moved"] >= leaks
    assert set(after.values()) == {"train", "val"}


def _write_splits(path: Path, splits: dict[str, str]) -> None:
    """Replace the splits of a run, and keep the footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    pq.write_table(pa.table([list(splits), list(splits.values())], schema=schema), path)


def test_one_group_makes_validation_equal_training(tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    paint(images / "a.png", 1)
    paint(images / "b.png", 1)
    job = stand_in_job(images, out)
    label(job, Silent())
    done = run_in_process("export", out)
    assert done.stdout.splitlines()[1] == (
        "validation equals training: the dataset has 2 images of one group (--split-by content); data.yaml points "
        "val to images/train"
    )
    assert summary(out)["splits"]["validation_equals_training"]
    assert set(split_of(out).values()) == {"train"}
    paint(images / "c.png", 3)
    label(job, Silent())
    assert "validation equals training" not in run_in_process("export", out).stdout
    assert split_of(out) == {"a.png": "train", "b.png": "train", "c.png": "val"}


WRONG_RULES = (
    '{"val_share": "x"}',
    '{"val_share": 2}',
    '{"val_share": NaN}',
    '{"val_share": 0.9, "test_share": 0.9}',
    '{"seed": 1.5}',
    '{"seed": null}',
    '{"split_by": 5}',
    '{"split_by": "regex:(?=a)"}',
    '{"split_by": "name"}',
    '{"colour": 1}',
    "[]",
    "{",
)


@pytest.mark.parametrize("damage", ["torn", "a split that is none", "no rule", "newer", "billions", *WRONG_RULES])
def test_damaged_splits_are_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    run, root = make_run(tmp_path, ["a.png", "bb.png"], (instance(0, 0.8, 0),))
    export(run, root, ONTOLOGY, ExportConfig())
    before, path = split_of(run.output), run.path / "splits.parquet"
    table = pq.read_table(path)
    footer = dict(table.schema.metadata)
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "a split that is none":
        pq.write_table(table.set_column(1, "split", pa.array(["train", "../.."])).replace_schema_metadata(footer), path)
    elif damage == "no rule":
        pq.write_table(table.replace_schema_metadata({b"labeler.schema_version": b"1"}), path)
    elif damage == "billions":
        many = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int8()), 5_000_000), ["train"])
        rows = pa.table([many, many], names=table.column_names)
        text = pa.schema([(name, pa.string()) for name in table.column_names], metadata=footer)
        pq.write_table(rows.cast(text), path)
    elif damage in WRONG_RULES:
        pq.write_table(table.replace_schema_metadata({**footer, b"labeler.split_rule": damage.encode()}), path)
    else:
        pq.write_table(table.replace_schema_metadata({**footer, b"labeler.schema_version": b"99"}), path)
    with pytest.raises(RunError, match="update labeler" if damage == "newer" else "is damaged .* delete it") as caught:
        export(run, root, ONTOLOGY, ExportConfig())
    assert "\n" not in str(caught.value)
    assert damage != "billions" or "5000000 rows" in str(caught.value)
    path.unlink()
    export(run, root, ONTOLOGY, ExportConfig())
    assert split_of(run.output) == before
