"""Files of other versions and damaged ones: older files are read by way of the table, newer ones are refused."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labeler.migrations import STEPS, VERSIONS, migrate
from tests.support.frozen import DONE, FROZEN, Frozen, digests, kept

pytestmark = pytest.mark.skipif(not FROZEN.exists(), reason="tests/data is not part of the source distribution")

READERS = {  # the commands that open a labeled folder
    "label": [],
    "export": ["export", "dataset"],
    "evaluate": ["evaluate", "dataset", "--truth", "truth.json"],
    "report": ["report", "dataset", "--samples", "1"],
    "tune": ["tune", "dataset", "--truth", "truth.json", "-o", "new.toml"],
    "review": ["review", "dataset", "--no-open"],
    "review --to": ["review", "dataset", "--to", "cvat", "-o", "new_set"],
    "review --from": ["review", "dataset", "--from", "returned_2.xml"],
    "review --apply": ["review", "dataset", "--apply", "decisions.json"],
}
NEWER_VERSION = 1 + max(VERSIONS.values())
RENAMED = {"image_id": "image", "tags": "words", "instances": "objects"}


@pytest.fixture
def frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Frozen:
    frozen = Frozen.copied(tmp_path)
    monkeypatch.chdir(frozen.folder)
    return frozen


def command(frozen: Frozen, name: str) -> int:
    return frozen.label() if name == "label" else frozen.run(*READERS[name])


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the lock's, and what a run that was refused says of itself."""
    left_out = ("lock", "owner.json", "run.json", "summary.json")
    found = (path for path in folder.rglob("*") if path.is_file() and path.name not in left_out)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def make_older(path: Path, renamed: dict[str, str]) -> None:
    """Write a Parquet file anew as version 0, whose columns had other names."""
    table = pq.read_table(path)
    names = [renamed.get(name, name) for name in table.column_names]
    pq.write_table(table.rename_columns(names).replace_schema_metadata({"labeler.schema_version": "0"}), path)


def renaming(monkeypatch: pytest.MonkeyPatch, kind: str, renamed: dict[str, str]) -> None:
    """Put the step from version 0 to 1 into the table."""
    back = {old: new for new, old in renamed.items()}
    monkeypatch.setitem(STEPS, (kind, 0), lambda row, _: {back.get(name, name): value for name, value in row.items()})


def edit(path: Path, change: Callable[[Any], None]) -> None:
    whole = json.loads(path.read_bytes())
    change(whole)
    path.write_text(json.dumps(whole), "utf-8")


# ---------------------------------------------------------------- older files


def test_older_records_are_read_and_not_labeled_again(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    records = frozen.out / "run" / "records"
    for name in ("000000.parquet", "000002.parquet"):
        make_older(records / name, RENAMED)
    renaming(monkeypatch, "records", RENAMED)
    before = kept(frozen.out)
    assert frozen.label() in DONE
    assert kept(frozen.out) == before
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]
    for name in READERS.keys() - {"label", "review"}:
        assert command(frozen, name) in DONE
    assert kept(frozen.out) == before


def test_older_tags_are_read(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    make_older(frozen / "tagged" / "run" / "records" / "000000.parquet", RENAMED)
    renaming(monkeypatch, "records", RENAMED)
    assert frozen.run("export", "tagged") == 0
    assert digests(frozen / "tagged") == frozen.expected["tagged"]["sha256"]


def test_an_older_manifest_is_read(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = {"image_id": "image", "superseded": "old"}
    make_older(frozen.out / "run" / "images.parquet", renamed)
    renaming(monkeypatch, "images.parquet", renamed)
    before = kept(frozen.out)
    assert frozen.label() in DONE
    assert kept(frozen.out) == before
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]


@pytest.mark.parametrize(
    ("kind", "file", "old", "new"),
    [
        ("run.json", "dataset/run/run.json", "source", "input"),
        ("run.json", "dataset/run/run.json", "dataset", "export"),
        ("review set", "dataset/run/sent/000002.json", "pictures", "images"),
        ("evaluation.json", "dataset/evaluation/evaluation.json", "config", "settings"),
        ("classes.json", "tagged/run/classes.json", "names", "classes"),
    ],
)
def test_older_json_is_read(
    frozen: Frozen, monkeypatch: pytest.MonkeyPatch, kind: str, file: str, old: str, new: str
) -> None:
    edit(frozen / file, lambda whole: whole.update({old: whole.pop(new), "version": 0}))
    renaming(monkeypatch, kind, {new: old})
    assert command(frozen, "review --from") in DONE
    assert digests(frozen.out) == frozen.expected["after_from"]["sha256"]
    assert command(frozen, "report") == 0
    assert frozen.run("export", "tagged") == 0
    assert digests(frozen / "tagged") == frozen.expected["tagged"]["sha256"]


def test_older_decisions_are_read(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    path = frozen.out / "run" / "decisions.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    older = [{"version": 0, **{"answer" if key == "verdict" else key: row[key] for key in row}} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in older), "utf-8")
    renaming(monkeypatch, "decisions", {"verdict": "answer"})
    assert command(frozen, "export") in DONE
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]


def test_older_thresholds_are_read(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    path = frozen / "tuned.toml"
    path.write_text("version = 0\n" + path.read_text("utf-8").replace("accept-score", "sure-from"), "utf-8")
    assert frozen.run("export", "dataset", "--config", path) == 2  # no step leads on from there

    def step(whole: dict[str, Any]) -> dict[str, Any]:
        own = {name: {"accept-score": each["sure-from"]} for name, each in whole.pop("class").items()}
        return {**whole, "accept-score": whole.pop("sure-from"), "class": own} | {"version": 1}

    monkeypatch.setitem(STEPS, ("config", 0), lambda whole, _: _without(step(dict(whole)), "sure-from"))
    assert frozen.run("export", "dataset", "--accept-score", 0.9) in DONE
    assert digests(frozen.out) != frozen.expected["dataset"]["sha256"]
    assert frozen.run("export", "dataset", "--config", path) in DONE
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]


def _without(whole: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in whole.items() if key != name}


# ---------------------------------------------------------------- thresholds that only older files have


DROPPED = "a class can have its own accept score only; no longer in force: "


def test_per_class_thresholds_of_older_folders_are_named(frozen: Frozen, caplog: pytest.LogCaptureFixture) -> None:
    """In one line, those that would change a result; the others go without one."""

    def change(whole: Any) -> None:
        own = whole["export"]["quality"]["of_classes"]
        own["circle"] |= {"min_mask_score": 0.99, "min_stability": 0.0}  # 0.0 is the common one
        own["moon"] = {"duplicate_iou": 0.3}
        whole["published"] = {"export": whole["export"], "min_scores": {}}

    path = frozen.out / "run" / "run.json"
    edit(path, change)
    assert command(frozen, "export") in DONE
    named = [message for message in caplog.messages if DROPPED in message]
    assert named == [f"dataset/run/run.json: {DROPPED}min_mask_score 0.99 of 'circle', duplicate_iou 0.3 of 'moon'"]
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]
    quality = json.loads(path.read_bytes())["export"]["quality"]
    assert quality["class_accept_scores"] == {
        "circle": 0.31, "square": 0.16, "triangle": 0.39, "star": 0.38, "ring": 0.37, "heart": 0.22
    }  # fmt: skip
    caplog.clear()
    assert command(frozen, "export") in DONE
    assert not [message for message in caplog.messages if DROPPED in message], "the folder is of this version now"


def test_instances_that_older_folders_had_in_the_dataset_are_named(
    frozen: Frozen, caplog: pytest.LogCaptureFixture
) -> None:
    """Under review, below the lowest score that is reviewed now."""
    edit(frozen.out / "run" / "run.json", lambda whole: whole["export"].update(include_review=True))
    assert command(frozen, "export") in DONE
    assert f"{DROPPED}review of 'square' below 0.064, review of 'heart' below 0.064" in caplog.text


def test_a_lower_min_score_of_an_older_folder_accepts_as_before(frozen: Frozen) -> None:
    """It lowered the accept score in proportion, which is the class's own now."""

    def change(whole: Any) -> None:
        quality = whole["export"]["quality"]
        quality |= {"min_score": 0.3, "min_joint_score": 0.2, "accept_score": 0.3, "of_classes": {}}
        for spec in whole["ontology"]["classes"]:
            spec["min_score"] = {"star": 0.1, "ring": 0.4}.get(spec["name"])

    path = frozen.out / "run" / "run.json"
    edit(path, change)
    assert command(frozen, "export") in DONE
    assert json.loads(path.read_bytes())["export"]["quality"]["class_accept_scores"] == pytest.approx({"star": 0.1})
    table = pandas.read_parquet(frozen.out / "run" / "verdicts.parquet")
    stars = table[(table["class_id"] == 3) & (table["decided_by"] == "gate")]
    assert (stars["joint_score"][stars["verdict"] == "accept"] < 0.3).any()
    assert set(stars["verdict"][stars["joint_score"] < 0.1]) == {"reject"}


@pytest.mark.parametrize(
    ("lines", "dropped"),
    [
        (
            "[class.dog]\nmin-mask-score = 0.7\nmin_stability = 0.2\n",
            "min-mask-score 0.7 of 'dog', min_stability 0.2 of 'dog'",
        ),
        ("duplicate-iou = 0.9\n[class.dog]\nduplicate-iou = 0.9\n", ""),
        ("class-min-stability = 'dog=0.2'\n", "class-min-stability dog=0.2"),
    ],
)
def test_per_class_thresholds_of_older_config_files_are_named(
    lines: str, dropped: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tuned.toml"
    content = migrate("config", tomllib.loads(lines), path)
    assert not re.search("mask|stability", json.dumps(content))
    assert caplog.messages == ([f"{path}: {DROPPED}{dropped}"] if dropped else [])


# ---------------------------------------------------------------- newer files


def newer_parquet(path: Path) -> None:
    pq.write_table(pq.read_table(path).replace_schema_metadata({"labeler.schema_version": f"{NEWER_VERSION}"}), path)


def newer_json(path: Path) -> None:
    edit(path, lambda whole: whole.update(version=NEWER_VERSION))


def newer_decision(path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f'{{"version": {NEWER_VERSION}, "said": "yes"}}\n')


NEWER: dict[str, tuple[Callable[[Path], None], Collection[str]]] = {
    "run/records/000001.parquet": (newer_parquet, set(READERS)),
    "run/images.parquet": (newer_parquet, set(READERS)),
    "run/run.json": (newer_json, set(READERS)),
    "run/decisions.jsonl": (newer_decision, READERS.keys() - {"tune"}),
    "run/sent/000002.json": (newer_json, {"review --from"}),
    "evaluation/evaluation.json": (newer_json, {"report"}),
}


@pytest.mark.parametrize("file", NEWER)
def test_newer_files_are_refused_in_one_line(frozen: Frozen, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_newer, readers = NEWER[file]
    make_newer(frozen.out / file)
    before, records = content(frozen.out), kept(frozen.out)
    for name in sorted(readers):
        assert command(frozen, name) == 2, name
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{file}" in line, name
        assert f"newer labeler (version {NEWER_VERSION}, this one reads up to " in line
        if (name, file) == ("label", "run/decisions.jsonl"):  # read when the dataset is written, behind the records
            assert kept(frozen.out) == records
            assert digests(frozen.out) == frozen.written["dataset"]["sha256"]
            before = content(frozen.out)
        assert content(frozen.out) == before, name


def test_newer_classes_and_thresholds_are_refused(frozen: Frozen, capsys: pytest.CaptureFixture[str]) -> None:
    newer_json(frozen / "tagged" / "run" / "classes.json")
    (frozen / "tuned.toml").write_text(f"version = {NEWER_VERSION}\n", "utf-8")
    before = content(frozen / "tagged")
    for arguments in (["tagged"], ["dataset", "--config", "tuned.toml"]):
        assert frozen.run("export", *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"newer labeler (version {NEWER_VERSION}" in line
    assert content(frozen / "tagged") == before


# ---------------------------------------------------------------- damaged ones


def set_to(*keys: str, value: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(whole: dict[str, Any]) -> dict[str, Any]:
        inner = whole
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return whole

    return change


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda whole: {name: value for name, value in whole.items() if name != key}


DEEP = "[" * 100_000
DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not JSON": lambda _: "{",
    "empty": lambda _: "",
    "nested too deep": lambda _: DEEP + "]" * 100_000,
    "half a character": lambda whole: json.dumps({**whole, "more": "\ud800"}),
    "a list": lambda _: "[]",
    "null": lambda _: "null",
    "version is text": set_to("version", value="one"),
    "version is true": set_to("version", value=True),
    "export is null": set_to("export", value=None),
    "labeling is a list": set_to("labeling", value=[]),
    "input is a number": set_to("input", value=5),
    "model is text": set_to("model", value="demo"),
    "floor is null": set_to("model", "floor", value=None),
    "ontology is text": set_to("ontology", value="dog"),
    "classes is a table": set_to("ontology", "classes", value={}),
    "a class is text": set_to("ontology", "classes", value=["dog"]),
    "distractors hold a number": set_to("ontology", "distractors", value=[5]),
    "quality is null": set_to("export", "quality", value=None),
    "a threshold is text": set_to("export", "quality", "accept_score", value="high"),
    "of_classes holds a number": set_to("export", "quality", "of_classes", value={"circle": 5}),
    "of_classes is a list": set_to("export", "quality", "of_classes", value=[]),
    "formats is text": set_to("export", "formats", value="coco"),
    "a format is unknown": set_to("export", "formats", value=["lvis"]),
    "val_share is text": set_to("export", "val_share", value="x"),
    "cutouts is a list": set_to("export", "cutouts", value=[]),
    "cutouts margin is null": set_to("export", "cutouts", "margin", value=None),
    "an export setting is unknown": set_to("export", "colour", value="red"),
    **{f"{key} is missing": without(key) for key in ("input", "labeling", "model", "ontology", "export")},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_json_gets_one_line(frozen: Frozen, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = frozen.out / "run" / "run.json"
    damaged = DAMAGES[damage](json.loads(path.read_bytes()))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged), "utf-8")
    before = content(frozen.out)
    # The command that labels reads no settings of the export here; every other one does.
    skipped = {"label"} if damage in EXPORT_ALONE else set()
    for name in sorted(READERS.keys() - skipped):
        assert command(frozen, name) == 2, name
        (line,) = capsys.readouterr().err.splitlines()
        assert "run.json" in line, name
        assert content(frozen.out) == before, name


EXPORT_ALONE = {
    "a threshold is text",
    "a format is unknown",
    "cutouts margin is null",
    "an export setting is unknown",
}


MANIFESTS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "a column is missing": lambda table: table.drop_columns("shard"),
    "a column is of another type": lambda table: table.set_column(1, "shard", pa.array(["x"] * len(table))),
    "a column is a list": lambda table: table.set_column(0, "image_id", pa.array([["x"]] * len(table))),
    "a column has missing values": lambda table: table.set_column(
        3, "superseded", pa.array([None] * len(table), pa.bool_())
    ),
    "shards are out of order": lambda table: table.take(list(reversed(range(len(table))))),
}


@pytest.mark.parametrize("damage", [*MANIFESTS, "torn", "empty"])
def test_a_damaged_manifest_gets_one_line(frozen: Frozen, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = frozen.out / "run" / "images.parquet"
    if damage in MANIFESTS:
        pq.write_table(MANIFESTS[damage](pq.read_table(path)), path)
    else:
        path.write_bytes(path.read_bytes()[:-30] if damage == "torn" else b"")
    before = content(frozen.out)
    for name in sorted(READERS):
        assert command(frozen, name) == 2, name
        (line,) = capsys.readouterr().err.splitlines()
        assert "images.parquet is damaged" in line, name
        assert content(frozen.out) == before, name


def test_more_columns_in_the_manifest_do_no_harm(frozen: Frozen) -> None:
    path = frozen.out / "run" / "images.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("note", pa.array(["mine"] * len(table))), path)
    before = kept(frozen.out)
    assert frozen.label() in DONE
    assert kept(frozen.out) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}', '{"set": 5, "images": [5]}', DEEP])
def test_a_damaged_review_set_gets_one_line(frozen: Frozen, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (frozen.out / "run" / "sent" / "000002.json").write_text(text, "utf-8")
    before = content(frozen.out)
    assert command(frozen, "review --from") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "000002.json" in line
    assert content(frozen.out) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole.update(set=["x"]),
        lambda whole: whole["images"][0].update(name=5),
        lambda whole: whole["images"][0]["instances"][0].update({"class": {}}),
        lambda whole: whole["images"][0]["instances"][0].pop("counts"),
    ],
    ids=["set", "name", "class", "counts"],
)
def test_a_review_set_with_other_values_gets_one_line(
    frozen: Frozen, change: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    edit(frozen.out / "run" / "sent" / "000002.json", change)
    assert command(frozen, "review --from") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "000002.json: damaged" in line


EVALUATIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not JSON": lambda _: "{",
    "a list": lambda _: "[]",
    "nested too deep": lambda _: DEEP,
    "nothing but a version": lambda whole: json.dumps({"version": 1}),
    "settings is a number": set_to("settings", value=5),
    "half a character": set_to("truth", value="\ud800"),
    "edges is a number": set_to("image_score", "histogram", "edges", value=5),
    "counts are too few": set_to("image_score", "histogram", "counts", value=[1]),
    "classes is missing": without("classes"),
}


@pytest.mark.parametrize("damage", EVALUATIONS)
def test_a_damaged_evaluation_gets_one_line(frozen: Frozen, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = frozen.out / "evaluation" / "evaluation.json"
    damaged = EVALUATIONS[damage](json.loads(path.read_bytes()))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged), "utf-8")
    assert command(frozen, "report") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "evaluation.json" in line
    assert "is damaged (" in line


def test_every_step_leads_to_the_next_version() -> None:
    """Only what a version in force can be reached by stands in the table."""
    for kind, version in STEPS:
        assert 0 < version < VERSIONS[kind]
        assert all((kind, number) in STEPS for number in range(version, VERSIONS[kind]))
