"""An export that judges only what changed, against a full export of the same records into an empty folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from labeler.decisions import Decision
from labeler.errors import FormatError
from labeler.files.image_table import ImageTable
from labeler.files.images import content_digest
from labeler.files.listing import stamps
from labeler.files.processes import on_all_cores
from labeler.quality_config import QualityConfig
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology
from tests.support.run_folders import ONTOLOGY, instance
from tests.support.run_settings import run_settings
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.export import export
from workflows.dataset.export_summary import ExportSummary
from workflows.dataset.file_names import shows_image
from workflows.dataset.judging import Rules, judge_shard
from workflows.dataset.ledger import read_ledger
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

EVERY_FORMAT = ExportConfig(val_share=0.4, formats=("coco", "yolo", "cutouts"), layout="nested")
OTHERS = ExportConfig(val_share=0.4, link="none", segmentation="polygon", include_review=True, test_share=0.2)
MASKS = ExportConfig(
    val_share=0.4, formats=("yolo-detect", "roboflow", "voc", "semantic", "hf"), segmentation="polygon", link="copy"
)
LINKS = ExportConfig(val_share=0.4, formats=("hf", "voc", "roboflow"), dataset_shards=2, link="symlink")
PARTS = ExportConfig(formats=("coco", "webdataset"), dataset_shards=3)
PARTS_OF_INPUT = ExportConfig(formats=("webdataset", "yolo"), link="none")
SIMPLE = ExportConfig(formats=("hf", "yolo", "coco"), simplify=1.5, min_part=9)
KEPT_BY_A_FULL_EXPORT = ("run.json", "images.parquet", "records", "decisions.jsonl", "splits.parquet")


def found(number: int) -> tuple[Instance, ...]:
    """The candidates of an image: accepted, under review, rejected, and a duplicate."""
    candidates = (
        instance(number % 2, 0.95, 0),
        instance(0, 0.55, number % 30),
        instance(0, 0.32, 31),
        instance(0, 0.2, 42),
    )
    return candidates[: number % 5]


def label(run: RunFolder, root: Path, names: Sequence[str]) -> None:
    """Images and records as `label` leaves them, three images a shard; names that are there keep theirs."""
    for number, name in enumerate(names):
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 60, 3), number, np.uint8)).save(root / name)
    run.plan(ImageTable.of(pa.array(names, pa.string()), pa.array(stamps(root, names), pa.string())), shard_size=3)
    for shard in run.waiting():
        records = []
        for image_id in shard.image_ids:
            digest = content_digest((root / image_id).read_bytes())
            records.append(ImageRecord(image_id, 60, 40, digest, instances=found(names.index(image_id))))
        if shard.index == 1:
            records[-1] = ImageRecord(shard.image_ids[-1], 0, 0, "", "error", "cut short")
        write_records(shard.records_path, records)


NAMES = [f"{'night' if number % 3 else 'day/a'}/{number:02d}.png" for number in range(11)]


@pytest.fixture
def labeled(tmp_path: Path) -> tuple[RunFolder, Path]:
    run, root = RunFolder(tmp_path / "out"), tmp_path / "in"
    with run.locked():
        run.begin(run_settings(root), restart=False)
        label(run, root, NAMES)
    return run, root


def contents(run: RunFolder) -> dict[str, object]:
    """The dataset, verdicts and splits, and what the ledger says of it."""
    paths = {path.relative_to(run.output).as_posix(): path for path in run.output.rglob("*") if path.is_file()}
    found = {name: path.read_bytes() for name, path in paths.items() if not name.startswith("run/")}
    for name in ("verdicts.parquet", "splits.parquet", "classes.json"):
        found[name] = (run.path / name).read_bytes()
    ledger = read_ledger(run.path / "ledger.parquet")
    assert ledger is not None
    entries = ledger.table.select(["name", "digest", "image_id"]).to_pylist()
    return {**found, "ledger": sorted(tuple(entry.values()) for entry in entries)}


def check(run: RunFolder, root: Path, ontology: Ontology, config: ExportConfig) -> ExportSummary:
    """Export, and compare the folder and the summary with those of a full export into an empty folder."""
    summary = export(run, root, ontology, config)
    full = RunFolder(run.output.with_name("full"))
    shutil.rmtree(full.output, ignore_errors=True)
    full.path.mkdir(parents=True)
    for name in KEPT_BY_A_FULL_EXPORT:
        if (run.path / name).is_dir():
            shutil.copytree(run.path / name, full.path / name)
        elif (run.path / name).exists():
            shutil.copy2(run.path / name, full.path / name)
    assert summary == export(full, root, ontology, config)
    assert contents(run) == contents(full)
    return summary


def files_of(run: RunFolder, image_id: str) -> list[Path]:
    """The files of the dataset that show an image."""
    ledger = read_ledger(run.path / "ledger.parquet")
    assert ledger is not None
    rows = ledger.table.select(["name", "image_id"]).to_pylist()
    return [run.output / row["name"] for row in rows if row["image_id"] == image_id and shows_image(row["name"])]


def kept(run: RunFolder) -> set[str]:
    return {path.name for path in (run.path / "export-cache").glob("*.parquet")}


@pytest.mark.parametrize(
    "config",
    [EVERY_FORMAT, OTHERS, MASKS, LINKS, PARTS, PARTS_OF_INPUT, SIMPLE],
    ids=["every format", "others", "masks", "links", "parts", "parts of the input", "simple polygons"],
)
def test_an_export_of_what_is_new_equals_a_full_one(config: ExportConfig, labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    first = check(run, root, ONTOLOGY, config)
    assert first.verdicts["dog"].keys() == {"accept", "review", "reject"}
    before = kept(run)
    assert len(before) == 4
    assert check(run, root, ONTOLOGY, config) == first
    assert kept(run) == before
    # people decide on images of two shards: one decision fits, one is on a mask that no instance has
    dog, gone = found(4)[2], instance(0, 0.9, 13)
    append_decisions(run, [Decision(NAMES[4], "accept", "dog", dog.rle), Decision(NAMES[0], "reject", "cat", gone.rle)])
    decided = check(run, root, ONTOLOGY, config)
    assert decided.decided == {"accept": 1}
    assert len(decided.unmatched) == 1
    assert 0 < len(kept(run) - before) <= 2
    assert len(kept(run)) == 4
    # new images, which are in a shard of their own
    before = kept(run)
    with run.locked():
        label(run, root, [*NAMES, "night/12.png", "other.png"])
    check(run, root, ONTOLOGY, config)
    assert len(kept(run) - before) == 1
    assert before < kept(run)
    # other settings, other classes, and back
    strict = ExportConfig(**{**vars(config), "quality": QualityConfig(accept_score=0.9)})
    check(run, root, ONTOLOGY, strict)
    check(run, root, Ontology((ClassSpec("hound", ("dog",)), ClassSpec("cat"))), strict)
    check(run, root, ONTOLOGY, config)
    # an image that is gone from the input, and from a dataset that has images
    (root / NAMES[1]).unlink()
    for path in files_of(run, NAMES[1]):
        path.unlink()
    summary = check(run, root, ONTOLOGY, config)
    assert summary.missing == [NAMES[1]]
    assert summary.failures == [(NAMES[5], "cut short")]


@pytest.mark.parametrize("link", ["hard", "copy"])
def test_the_last_copy_of_an_image_is_set_aside_once(link: str, labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    config = ExportConfig(formats=("hf", "voc", "roboflow"), link=link)
    export(run, root, ONTOLOGY, config)
    content = (root / NAMES[1]).read_bytes()
    files = files_of(run, NAMES[1])
    assert len(files) == 4
    assert {path.read_bytes() for path in files} == {content}
    (root / NAMES[1]).unlink()
    files[0].unlink()
    aside = export(run, root, ONTOLOGY, config).set_aside
    assert [(run.path / "set-aside" / name).read_bytes() for name in aside] == [content]
    assert not any(path.exists() for path in files)


def test_notes_on_nothing_accepted_are_the_same_when_nothing_is_judged(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    nothing = ExportConfig(quality=QualityConfig(accept_score=0.99))
    first = check(run, root, ONTOLOGY, nothing)
    assert any("would accept the best" in line for line in first.nothing_accepted)
    assert check(run, root, ONTOLOGY, nothing).nothing_accepted == first.nothing_accepted


def test_what_is_kept_is_not_trusted(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    first = check(run, root, ONTOLOGY, EVERY_FORMAT)
    paths = sorted((run.path / "export-cache").glob("*.parquet"))
    shutil.copy(paths[2], paths[0])  # that of another shard
    paths[1].write_bytes(paths[1].read_bytes()[:-20])
    for path in (run.path / "export-cache").glob("*.json"):
        path.write_text("[")
    assert check(run, root, ONTOLOGY, EVERY_FORMAT) == first
    shutil.rmtree(run.path / "export-cache")
    assert check(run, root, ONTOLOGY, EVERY_FORMAT) == first


def test_edits_and_deletions_are_noticed_when_nothing_is_judged(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, EVERY_FORMAT)
    before = contents(run)
    lost = [
        next(run.output.glob(pattern)) for pattern in ("labels/*/night/02.txt", "cutouts/*", "annotations/*_val.json")
    ]
    for path in lost:
        path.unlink()
    edited = next(run.output.glob("annotations/*_train.json"))
    edited.write_text("mine")
    summary = export(run, root, ONTOLOGY, EVERY_FORMAT)
    assert sorted(summary.restored) == sorted(path.relative_to(run.output).as_posix() for path in lost)
    assert summary.edited == ["annotations/instances_train.json"]
    assert edited.read_text() == "mine"
    export(run, root, ONTOLOGY, EVERY_FORMAT, overwrite_edits=True)
    assert contents(run) == before


def test_processes_judge_as_this_one_does(labeled: tuple[RunFolder, Path]) -> None:
    run, _ = labeled
    rules = Rules(ONTOLOGY, False, EVERY_FORMAT)
    decisions = {NAMES[4]: [Decision(NAMES[4], "accept", "dog", found(4)[2].rle)]}
    shards = list(run.current().shards())
    with on_all_cores(partial(judge_shard, rules), is_worth_it=True) as (judge, _):
        for shard in shards:
            table, labels = judge(shard, decisions)
            expected, expected_labels = judge_shard(rules, shard, decisions)
            assert table.equals(expected)
            assert labels == expected_labels
        shards[0].files[0].write_bytes(b"PAR1")
        with pytest.raises(FormatError, match=r"000000\.parquet"):
            judge(shards[0], decisions)
