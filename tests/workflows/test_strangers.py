"""A run folder from somebody else: whatever it holds, commands stay inside it and say in one line what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labeler.decisions import Decision
from labeler.record_files import read_records, write_records
from labeler.records import ImageRecord
from tests.support.made_folder import write_labeled
from workflows.commands.cli import main
from workflows.dataset.labeled import open_labeled
from workflows.reporting.report import report
from workflows.run.attempts import Attempts
from workflows.run.locks import UNKNOWN, read_owner

NAMES = [f"cam/{index}.png" for index in range(5)]
CLASSES = ("ring", "star")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images``, a labeled and evaluated ``dataset``, and the ground truth."""
    folder = tmp_path_factory.mktemp("made")
    out = write_labeled(folder, NAMES, CLASSES, side=96)
    assert main(["export", str(out)]) == 1  # the last image could not be read
    shutil.copy(out / "annotations" / "instances_train.json", folder / "truth.json")
    assert main(["evaluate", str(out), "--truth", str(folder / "truth.json")]) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy, to be spoiled."""
    copy = tmp_path / "folder"
    shutil.copytree(made, copy)
    settings = copy / "dataset" / "run" / "run.json"
    settings.write_text(settings.read_text().replace(str(made), str(copy)))
    return copy


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that is to be refused; its one line is returned, and nothing but ``dataset`` may have changed."""

    def run(*arguments: object) -> str:
        before = outside(folder)
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        said = capsys.readouterr().err
        assert len(said.strip().splitlines()) == 1, said
        line = said.strip()
        assert outside(folder) == before
        return line

    return run


def outside(folder: Path) -> dict[str, bytes]:
    """Every file that lies not in the dataset."""
    files = (path for path in folder.parent.rglob("*") if path.is_file())
    return {str(path): path.read_bytes() for path in files if not path.is_relative_to(folder / "dataset")}


def commands(folder: Path) -> list[tuple[object, ...]]:
    out = folder / "dataset"
    return [
        ("export", out),
        ("report", out),
        ("evaluate", out, "--truth", folder / "truth.json"),
        ("tune", out, "--truth", folder / "truth.json", "-o", out / "tuned.toml"),
        ("review", out, "--to", "cvat", "-o", folder / "dataset" / "sent", "--verdict", "all"),
        ("review", out, "--no-open"),
    ]


def records_path(folder: Path) -> Path:
    return folder / "dataset" / "run" / "records" / "000000.parquet"


def respell(folder: Path, image_id: str) -> None:
    """Give the first image another id, in its record and in the manifest."""
    records = list(read_records([records_path(folder)]))
    write_records(records_path(folder), [replace(records[0], image_id=image_id), *records[1:]])
    manifest = folder / "dataset" / "run" / "images.parquet"
    table = pq.read_table(manifest)
    ids = [image_id, *table.column("image_id").to_pylist()[1:]]
    field = table.schema.field("image_id")
    pq.write_table(table.set_column(table.schema.get_field_index("image_id"), field, pa.array(ids)), manifest)


# ---------------------------------------------------------------- image ids


@pytest.mark.parametrize(
    "image_id", ["../private.png", "/private.png", "cam/../../private.png", "./0.png", "cam//0.png"]
)
def test_no_command_follows_an_id_out_of_the_folder(image_id: str, folder: Path, refused: Run) -> None:
    private = folder / "private.png"
    Image.new("RGB", (9, 9)).save(private)
    (folder / "private.txt").write_text("mine")
    respell(folder, str(private) if image_id.startswith("/") else image_id)
    for command in commands(folder):
        line = refused(*command)
        assert "images.parquet" in line, command
        assert "is not a relative path that stays inside its folder" in line, command
        assert str(private)[:30] in line or repr(image_id) in line, command


def test_label_refuses_such_a_folder_too(folder: Path, refused: Run) -> None:
    respell(folder, "../private.png")
    flags = ("--classes", "ring,star", "--detector", "embedded:detector", "--segmenter", "embedded:segmenter")
    line = refused("label", folder / "images", "-o", folder / "dataset", *flags)
    assert "'../private.png' is not a relative path" in line


def test_without_a_manifest_the_records_are_checked(folder: Path, refused: Run) -> None:
    respell(folder, "../private.png")
    (folder / "dataset" / "run" / "images.parquet").unlink()
    for command in commands(folder)[1:3]:
        line = refused(*command)
        assert "'../private.png' is not a relative path" in line
        assert "000000.parquet" in line


def test_a_manifest_of_other_columns(folder: Path, refused: Run) -> None:
    path = folder / "dataset" / "run" / "images.parquet"
    table = pq.read_table(path)
    count = len(table)
    spoiled = [
        table.drop_columns("shard"),
        table.set_column(1, "shard", pa.array(["x"] * count)),
        table.set_column(1, "shard", pa.array([None] * count, pa.int32())),
        table.set_column(1, "shard", pa.array([-1] * count, pa.int32())),
        table.set_column(3, "superseded", pa.array([None] * count, pa.bool_())),
        table.set_column(0, "image_id", pa.array([None] * count, pa.string())),
        table.set_column(0, "image_id", pa.array([b"\xff"] * count).view(pa.string())),
        pa.table({"x": [1]}),
    ]
    for content in spoiled:
        pq.write_table(content, path)
        assert str(path) in refused("report", folder / "dataset")


# ---------------------------------------------------------------- records


def spoil(folder: Path, change: Callable[[ImageRecord], ImageRecord]) -> None:
    records = list(read_records([records_path(folder)]))
    place = next(place for place, record in enumerate(records) if record.instances)
    records[place] = change(records[place])
    write_records(records_path(folder), records)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda record: replace(record, width=0), "a size of 0 x 96"),
        (lambda record: replace(record, width=2**31 - 1, height=2**31 - 1), "a size of 2147483647 x 2147483647"),
        (lambda record: replace(record, width=95), "the RLE counts of an instance do not fit the image"),
    ],
)
def test_sizes_and_masks_of_records(
    change: Callable[[ImageRecord], ImageRecord], says: str, folder: Path, refused: Run
) -> None:
    spoil(folder, change)
    for command in commands(folder):
        line = refused(*command)
        assert says in line, command
        assert "000000.parquet" in line, command


def test_class_ids_that_there_are_not(folder: Path, refused: Run) -> None:
    spoil(folder, lambda record: replace(record, instances=(replace(record.instances[0], class_id=2),)))
    for command in commands(folder):
        assert "has class id 2, but there are 2 classes" in refused(*command), command


# ---------------------------------------------------------------- what an evaluation left


@pytest.mark.parametrize(
    "name",
    ["../private.jpg", "/etc/passwd", "../../private.jpg", "evaluation.json", "worst_1.jpg", "worst_01.jpg/", 5, ""],
)
def test_a_report_embeds_no_other_file(name: Any, folder: Path, refused: Run) -> None:
    path = folder / "dataset" / "evaluation" / "evaluation.json"
    content = json.loads(path.read_text())
    Image.new("RGB", (9, 9)).save(folder / "private.jpg")
    Image.new("RGB", (9, 9)).save(folder / "dataset" / "private.jpg")
    content["worst"][0]["picture"] = name
    path.write_text(json.dumps(content))
    line = refused("report", folder / "dataset")
    assert "which evaluate does not write" in line
    assert str(path) in line


@pytest.mark.parametrize("kind", ["link", "text", "folder", "pipe", "folder link"])
def test_a_picture_is_a_jpeg_of_the_folder_itself(kind: str, folder: Path, refused: Run) -> None:
    picture = folder / "dataset" / "evaluation" / "worst_01.jpg"
    shutil.move(picture, folder / "private.jpg")
    if kind == "link":
        picture.symlink_to(folder / "private.jpg")
    elif kind == "text":
        picture.write_text("root:x:0:0:root")
    elif kind == "folder":
        picture.mkdir()
    elif kind == "pipe":
        os.mkfifo(picture)
    else:
        shutil.move(folder / "private.jpg", folder / "worst_01.jpg")
        shutil.move(picture.parent / "evaluation.json", folder / "evaluation.json")
        shutil.rmtree(picture.parent)
        picture.parent.symlink_to(folder)
    line = refused("report", folder / "dataset")
    assert "worst_01.jpg is not a" in line


@pytest.mark.parametrize(
    "spoiled",
    [
        {"worst": None},
        {"worst": [5]},
        {"worst": [{"picture": None}]},
        {"settings": {}},
        {"classes": [{"name": "x"}]},
        {"all": {"mask": 5}},
        {"image_score": {"mean": "<b>", "histogram": {"edges": [0, 1], "counts": [1]}}},
        {"image_score": {"mean": 0.5, "histogram": {"edges": [0, 0, 1], "counts": [1, 1]}}},
        {"image_score": {"mean": 0.5, "histogram": {"edges": ["a", "b"], "counts": [1]}}},
        {"not_compared": {"x": 5}},
        {"single_object": {"x": {}}},
    ],
)
def test_an_evaluation_that_does_not_hold_together(spoiled: dict[str, Any], folder: Path, refused: Run) -> None:
    path = folder / "dataset" / "evaluation" / "evaluation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | spoiled))
    line = refused("report", folder / "dataset")
    assert f"{path} is damaged" in line
    assert "evaluate again, or remove it" in line


def test_its_own_pictures_are_embedded(folder: Path) -> None:
    path = folder / "dataset" / "evaluation" / "evaluation.json"
    pictures = [each["picture"] for each in json.loads(path.read_text())["worst"]]
    assert "worst_01.jpg" in pictures
    page = report(open_labeled(folder / "dataset")).path
    assert isinstance(page, Path)
    assert page.read_text().count("data:image/jpeg;base64,") == sum(picture is not None for picture in pictures)


# ---------------------------------------------------------------- decisions and review sets


def test_decisions_of_others(folder: Path, refused: Run, capsys: pytest.CaptureFixture[str]) -> None:
    record = next(record for record in read_records([records_path(folder)]) if record.instances)
    row = Decision(record.image_id, "accept", "ring", record.instances[0].rle).to_row()
    hostile = [
        row | {"image_id": "../a.png"},
        row | {"mask": {"size": [0, 96], "counts": "0"}},
        row | {"mask": {"size": [10**9, 10**9], "counts": "0"}},
        row | {"mask": {"size": [96, 96], "counts": 10**12}},
        row | {"mask": {"size": [96, 10**400], "counts": "0"}},
        row | {"mask": {"size": "96", "counts": "0"}},
        [],
    ]
    path = folder / "dataset" / "decisions.json"
    for each in hostile:
        path.write_text(json.dumps([each]))
        line = refused("review", folder / "dataset", "--apply", path)
        assert f"{path}, entry 1: not a decision" in line
    (folder / "dataset" / "run" / "decisions.jsonl").write_text("".join(json.dumps(each) + "\n" for each in hostile))
    capsys.readouterr()
    assert main(["export", str(folder / "dataset")]) in (0, 1)  # one image of it failed before


@pytest.mark.parametrize(
    "spoiled",
    [
        {"width": 0},
        {"height": 10**9, "width": 10**9},
        {"width": "96"},
        {"image_id": "../a.png"},
        {"image_id": "/a.png"},
        {"instances": [{"id": "x", "class": "ring", "score": 0.5, "counts": "0"}]},
        {"instances": [{"id": "x", "class": "ring", "score": "high", "counts": "T`1"}]},
        {"instances": [{}]},
        {"instances": 5},
    ],
)
def test_review_sets_of_others(spoiled: dict[str, Any], folder: Path, refused: Run) -> None:
    out, sent = folder / "dataset", folder / "dataset" / "sent"
    assert main(["review", str(out), "--to", "fiftyone", "-o", str(sent), "--verdict", "all"]) == 0
    kept = out / "run" / "sent" / "000001.json"
    content = json.loads(kept.read_text())
    content["images"][0] |= spoiled
    kept.write_text(json.dumps(content))
    line = refused("review", out, "--from", sent / "labels.json")
    assert f"{kept}: damaged, not an image of a review set" in line
    for text in ("{", "[]", '{"version": 1}', '{"version": 9, "set": "x", "images": []}', "[" * 100_000):
        kept.write_text(text)
        line = refused("review", out, "--from", sent / "labels.json")
        assert str(kept) in line
        assert any(cause in line for cause in ("not valid JSON", "not a JSON object", "damaged", "a newer labeler"))


@pytest.mark.parametrize("name", ["lock", "decisions.jsonl"])
def test_nothing_is_written_through_a_link(name: str, folder: Path, refused: Run) -> None:
    record = next(record for record in read_records([records_path(folder)]) if record.instances)
    row = Decision(record.image_id, "accept", "ring", record.instances[0].rle).to_row()
    (folder / "dataset" / "decisions.json").write_text(json.dumps([row]))
    (folder / "private.txt").write_text("mine\n")
    link = folder / "dataset" / "run" / name
    link.unlink(missing_ok=True)
    link.symlink_to(folder / "private.txt")
    line = refused("review", folder / "dataset", "--apply", folder / "dataset" / "decisions.json")
    assert f"{link} is a link" in line


# ---------------------------------------------------------------- named pipes


@pytest.fixture
def alarm() -> Iterator[None]:
    """What waits for a pipe fails the test, and not the test run."""

    def rings(*_: object) -> None:
        raise AssertionError("still waiting")

    before = signal.signal(signal.SIGALRM, rings)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize(
    "name",
    [
        *("reported.json", "ledger.parquet", "images.parquet", "classes.json", "decisions.jsonl"),
        *("run.json", "records/000000.parquet", "owner.json"),
    ],
)
def test_a_named_pipe_is_no_file_of_a_run(name: str, folder: Path, refused: Run) -> None:
    path = folder / "dataset" / "run" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    line = refused("export", folder / "dataset")
    assert f"{path}: not a regular file" in line


# ---------------------------------------------------------------- settings, and ground truth


def put_in(path: Path, places: Sequence[tuple[str, ...]], value: Any) -> None:
    """Put ``value`` at ``places`` of a JSON file."""
    content = json.loads(path.read_text())
    for keys in places:
        put(content, keys, value)
    path.write_text(json.dumps(content))


HUGE = 10**400


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("export", "quality", "accept_score"), HUGE, "--accept-score must be a number from 0 to 1, not 1000"),
        (("export", "quality", "min_area"), HUGE, "--min-area must be a whole number, 0 or more, not 1000"),
        (("export", "val_share"), HUGE, "--val-share must be a number from 0 to 1, not 1000"),
        (("export", "cutouts", "smooth_radius"), HUGE, "--smooth-radius must be a number, 0 or more, not 1000"),
    ],
)
def test_dataset_settings_that_no_flag_could_give(
    keys: tuple[str, ...], value: Any, says: str, folder: Path, refused: Run
) -> None:
    path = folder / "dataset" / "run" / "run.json"
    put_in(path, (keys, ("published", *keys)), value)
    for command in commands(folder):
        line = refused(*command)
        assert says in line, command
        assert "reset them with" in line, command
        assert len(line) < len(str(path)) * 2 + 300
    assert main(["export", str(folder / "dataset"), "--defaults"]) in (0, 1)
    assert main(["export", str(folder / "dataset")]) in (0, 1)


@pytest.mark.parametrize(
    ("keys", "value", "says"),
    [
        (("model", "floor"), HUGE, "floor of model must be a finite number, not 1000"),
        (("labeling", "tagging"), [1], "tagging of labeling is a list"),
        (("labeling", "tagging"), "x", "tagging of labeling is 'x'"),
    ],
)
def test_settings_of_labeling_that_it_does_not_write(
    keys: tuple[str, ...], value: Any, says: str, folder: Path, refused: Run
) -> None:
    path = folder / "dataset" / "run" / "run.json"
    put_in(path, (keys,), value)
    for command in (*commands(folder), ("export", folder / "dataset", "--defaults")):
        line = refused(*command)
        assert f"{path} is damaged ({says}" in line, command


def put(content: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        content = content.setdefault(key, {})
    content[keys[-1]] = value


@pytest.mark.parametrize("place", ["images", "categories"])
def test_ground_truth_with_half_of_a_surrogate_pair(place: str, folder: Path, refused: Run) -> None:
    path = folder / "truth.json"
    content = json.loads(path.read_text())
    key = "file_name" if place == "images" else "name"
    content[place][0][key] = "\ud800"
    path.write_text(json.dumps(content))
    line = refused("evaluate", folder / "dataset", "--truth", path)
    assert f"at position 0: '{key}' is not valid Unicode, but '\\ud800'" in line


# ---------------------------------------------------------------- notes, and models


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"unfinished": "x", "images": {}}', '{"unfinished": 1, "images": 5}']
)
def test_a_note_of_attempts_that_is_none_counts_as_one_attempt(text: str, tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text(text)
    assert Attempts(tmp_path / "note.json").unfinished == 1


@pytest.mark.parametrize("wrong", [{"pid": 10**30}, {"pid": -1}, {"pid": "x"}, {"pid": None}, {"beat": 10**400}])
def test_an_owner_that_is_no_process(wrong: dict[str, Any], tmp_path: Path) -> None:
    note = {"host": "x", "pid": 1, "since": "x", "token": "x", "beat": 1.0}
    (tmp_path / "owner.json").write_text(json.dumps(note | wrong))
    assert read_owner(tmp_path / "owner.json") == UNKNOWN


def test_models_that_only_run_json_names_are_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "dataset" / "run" / "run.json"
    settings = json.loads(path.read_text())
    settings["model"] |= {"detector": str(folder / "evil"), "segmenter": str(folder / "evil")}
    path.write_text(json.dumps(settings))

    def loads(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    for module in (
        "identity.resolve",
        "checkpoints.resolve",
        "loading.load_checkpoint",
        "taggers.vocabulary.load_checkpoint",
    ):
        monkeypatch.setattr(f"labeler.models.{module}", loads)
    out = folder / "dataset"
    assert main(["export", str(out)]) in (0, 1)
    assert main(["report", str(out)]) == 0
    assert main(["evaluate", str(out), "--truth", str(folder / "truth.json")]) == 0
    assert main(["review", str(out), "--to", "cvat", "-o", str(folder / "set"), "--verdict", "all"]) == 0
