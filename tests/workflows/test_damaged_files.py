"""Values of every file in a run folder, replaced by what does not belong there: one line, or read as documented."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labeler.errors import LabelerError
from labeler.record_files import fault_of_records, read_columns, read_record, read_records
from tests.support.command_line import run_in_process
from tests.support.made_folder import write_labeled
from workflows.dataset.decision_log import read_decisions
from workflows.dataset.journal import read_journal
from workflows.dataset.ledger import read_ledger
from workflows.dataset.verdicts import read_verdicts
from workflows.evaluation.saved import read_evaluation
from workflows.review.sent_sets import read_sent
from workflows.run.attempts import Attempts
from workflows.run.classes import read_classes
from workflows.run.failures import FailureLedger
from workflows.run.folder import RunFolder
from workflows.run.locks import read_owner
from workflows.run.manifest import read_manifest
from workflows.settings.run_json import RunJson

VALUES: list[Any] = [
    *(None, True, 0, -5, 1.5, 1e308, float("nan"), 10**400, 2**63, "", "x", "../../x", "/etc/passwd", "\ud800", "a\0b"),
    *([], {}, [None], [[1]], {"": None}, {"x": {"y": [1]}}),
]
TRIES = 250  # of the values of one file
TEXTS = [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xff", b"9" * 5000, b'"\\ud800"', b"NaN"]
TEXTS += [b'{"version": 9}', b'{"version": -1}', b'{"version": "2"}', b"\0" * 99, b'{"version": 1, "version": 2}']
JOURNAL = {
    "version": 1,
    "operations": [
        {"do": "put", "name": "labels/train/q.txt", "digest": "00", "image_id": "q.png"},
        {"do": "move", "name": "labels/train/a.txt", "source": "labels/val/a.txt", "expected": "1-1", "old": "00"},
    ],
}


# What reads each JSON file of a folder.
READERS: dict[str, Callable[[Path], object]] = {
    "run/run.json": lambda out: RunJson(out).read(),
    "run/classes.json": lambda out: read_classes(out / "run" / "classes.json"),
    "run/reported.json": lambda out: FailureLedger(RunFolder(out)),
    "run/attempts/000000.json": lambda out: Attempts(out / "run" / "attempts" / "000000.json"),
    "run/owner.json": lambda out: read_owner(out / "run" / "owner.json"),
    "run/journal.json": lambda out: read_journal(out / "run" / "journal.json"),
    "run/decisions.jsonl": lambda out: read_decisions(RunFolder(out)),
    "run/sent/000001.json": lambda out: read_sent(out / "run" / "sent" / "000001.json"),
    "evaluation/evaluation.json": read_evaluation,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``images``, the ground truth, and a ``dataset`` with every file that the commands leave."""
    folder = tmp_path_factory.mktemp("made")
    out = write_labeled(folder, [f"{index}.png" for index in range(3)], ("ring", "star"), side=48)
    assert run_in_process("export", out).returncode == 1  # the last image could not be read
    truth = folder / "truth.json"
    shutil.copy(next((out / "annotations").glob("*_train.json")), truth)
    assert run_in_process("evaluate", out, "--truth", truth).returncode == 0
    assert run_in_process("review", out, "--to", "cvat", "-o", folder / "set", "--verdict", "all").returncode == 0
    assert run_in_process("review", out, "--from", folder / "set" / "annotations.xml").returncode in (0, 1)
    owner = {"host": "x", "pid": 5, "since": "2020", "token": "t", "beat": 1.0}
    notes = {"attempts/000000": {"unfinished": 1, "images": {"1.png": 1}}, "owner": owner, "journal": JOURNAL}
    for name, content in notes.items():
        (out / "run" / name).parent.mkdir(exist_ok=True)
        (out / "run" / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "dataset", tmp_path / "dataset"))


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to each value; of a list, only to the first and the last entry."""
    yield at
    for key in content if isinstance(content, dict) else {0, len(content) - 1} if isinstance(content, list) else ():
        if isinstance(content, dict) or content:
            yield from places(content[key], (*at, key))


def spoiled(content: Any, at: tuple[Any, ...], value: Any) -> str:
    """The JSON text with ``value`` at ``at``; ``...`` leaves the value out."""
    if not at:
        return json.dumps(None if value is ... else value)
    content = copy.deepcopy(content)
    inner = content
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return json.dumps(content)


def check(read: Callable[[], object], what: object) -> None:
    try:
        read()
    except LabelerError as error:
        if not str(error) or "\n" in str(error) or len(str(error)) > 1000:
            pytest.fail(f"{what}: not one short line, but {error}")
    except Exception as error:
        pytest.fail(f"{what}: {error!r}")


@pytest.mark.parametrize("name", READERS)
def test_every_value_of_a_json_file(name: str, out: Path) -> None:
    path = out / name
    text = path.read_text().splitlines()[0] if name.endswith("l") else path.read_text()
    content = json.loads(text)
    rng, tries = random.Random(0), [(at, value) for at in places(content) for value in (..., *VALUES)]
    for at, value in rng.sample(tries, min(len(tries), TRIES)):
        path.write_text(spoiled(content, at, value))
        check(lambda: READERS[name](out), (at, value))
    for data in TEXTS:
        path.write_bytes(data)
        check(lambda: READERS[name](out), data[:20])


READERS_OF_PARQUET: dict[str, tuple[Callable[[Path], object], ...]] = {
    "images.parquet": (read_manifest,),
    "ledger.parquet": (read_ledger,),
    "verdicts.parquet": (read_verdicts,),
    "records/000000.parquet": (
        lambda path: list(read_records([path])),
        lambda path: read_record(path, 1),
        lambda path: read_columns(path, ["image_id", "tags"]),
        lambda path: fault_of_records(path, pa.array(["0.png"])),
    ),
}


@pytest.mark.parametrize("name", READERS_OF_PARQUET)
def test_parquet_files_with_flipped_bytes_and_cut_short(name: str, out: Path) -> None:
    path = out / "run" / name
    data, rng = path.read_bytes(), np.random.default_rng(0)
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for number in range(60):
        spoilt = bytearray(data)
        first = footer if number % 2 else 4
        for at in rng.integers(first, len(data), 1 + number % 3).tolist():
            spoilt[at] = int(rng.integers(256))
        path.write_bytes(spoilt if number % 10 else data[: int(rng.integers(len(data)))])
        for read in READERS_OF_PARQUET[name]:
            check(lambda read=read: read(path), (name, number))  # type: ignore[misc]


@pytest.mark.parametrize("version", [b"", b"99", b"-1", b"x", b"\xff", b"9" * 5000])
def test_versions_of_parquet_files(version: bytes, out: Path) -> None:
    for name, readers in READERS_OF_PARQUET.items():
        path = out / "run" / name
        metadata = {b"labeler.schema_version": version, b"labeler.ledger_version": version}
        pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
        for read in readers:
            check(lambda read=read, path=path: read(path), (name, version))  # type: ignore[misc]


def test_a_few_bytes_that_stand_for_many_rows(out: Path) -> None:
    for name, readers in READERS_OF_PARQUET.items():
        path = out / "run" / name
        table = pq.read_table(path).slice(0, 1)
        rows = table.take(pa.array(np.zeros(500_000, dtype=np.int8)))
        pq.write_table(rows, path, compression="zstd", row_group_size=2**23)
        assert path.stat().st_size < 40_000
        for read in readers:
            check(lambda read=read, path=path: read(path), name)  # type: ignore[misc]
        if name != "verdicts.parquet":  # which are made anew
            with pytest.raises(LabelerError, match="states 500000 rows"):
                readers[0](path)


def test_commands_on_a_sample_of_them(made: Path, tmp_path: Path) -> None:
    rng, out = random.Random(1), tmp_path / "dataset"
    flags = ("--classes", "ring, star", "--detector", "embedded:detector", "--segmenter", "embedded:segmenter")
    commands: list[tuple[object, ...]] = [
        ("export", out),
        ("export", out, "--defaults"),
        ("report", out),
        ("evaluate", out, "--truth", made / "truth.json"),
        ("review", out, "--to", "cvat", "-o", tmp_path / "sent", "--verdict", "all"),
        ("review", out, "--from", made / "set" / "annotations.xml"),
        ("label", made / "images", "-o", out, *flags),
    ]
    for number, name in enumerate(READERS):
        shutil.copytree(made / "dataset", out)
        path = out / name
        content = json.loads(path.read_text().splitlines()[0] if name.endswith("l") else path.read_text())
        at, value = rng.choice(list(places(content))), rng.choice([..., *VALUES])
        path.write_text(spoiled(content, at, value))
        run = run_in_process(*commands[number % len(commands)])
        assert run.returncode in (0, 1, 2, 3), (name, at, value)
        said = run.stderr.strip().splitlines()
        assert all(line.startswith("labeler: ") for line in said), (name, at, value, said)
        assert run.returncode < 2 or said, (name, at, value)
        shutil.rmtree(out)
        shutil.rmtree(tmp_path / "sent", ignore_errors=True)
