from __future__ import annotations

import io
import logging
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labeler.errors import RunError
from labeler.files.image_table import ImageTable
from labeler.files.storage import info, locate, read_bytes, scan, write_bytes
from labeler.record_files import read_records, write_records
from labeler.records import ImageRecord
from tests.support.run_settings import run_settings
from workflows.run.folder import RunFolder

LABELING = run_settings(floor=0.1, labeling={"ontology": "a", "detector": "b"})
OTHER = replace(LABELING, labeling={"ontology": "x", "detector": "b"})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "out")
    with run.locked():
        run.begin(LABELING, restart=False)
    return run


def plan(run: RunFolder, image_ids: list[str], shard_size: int) -> None:
    run.plan(ImageTable.of(pa.array(image_ids), pa.array([""] * len(image_ids))), shard_size)


def test_new_images_get_shards_behind_the_old_ones(run: RunFolder) -> None:
    plan(run, ["b", "c", "d"], shard_size=2)
    before = run.shards()
    plan(run, ["a", "b", "c", "d", "e", "f"], shard_size=2)
    after = run.shards()
    assert [shard.image_ids for shard in after] == [("b", "c"), ("d",), ("a", "e"), ("f",)]
    assert after[:2] == before
    manifest = pandas.read_parquet(run.path / "images.parquet")
    assert dict(zip(manifest["image_id"], manifest["shard"], strict=True)) == {
        "b": 0, "c": 0, "d": 1, "a": 2, "e": 2, "f": 3
    }  # fmt: skip


def test_planning_again_changes_nothing(run: RunFolder) -> None:
    plan(run, ["a", "b"], shard_size=1)
    content = (run.path / "images.parquet").read_bytes()
    plan(run, ["a", "b"], shard_size=7)
    assert (run.path / "images.parquet").read_bytes() == content


def with_a_record(run: RunFolder, status: str = "ok") -> Path:
    plan(run, ["a"], shard_size=1)
    path = run.shards()[0].records_path
    write_records(path, [ImageRecord("a", 1, 1, "", "error" if status == "error" else "ok")])
    return path


def test_other_settings_are_refused_and_named(run: RunFolder) -> None:
    with_a_record(run)
    with pytest.raises(RunError, match=r"another ontology;.*--restart.*export"):
        run.begin(OTHER, restart=False)
    run.begin(LABELING, restart=False)


def test_nothing_labeled_yet_binds_nobody(run: RunFolder) -> None:
    plan(run, ["a"], shard_size=1)
    run.begin(OTHER, restart=False)  # say, after a model that was not on this machine
    assert run.shards() == []


def test_another_input_is_refused_unless_the_old_one_is_gone(run: RunFolder, tmp_path: Path) -> None:
    with_a_record(run)
    with pytest.raises(RunError, match="holds labels of /, not of /elsewhere"):
        run.begin(replace(LABELING, input="/elsewhere"), restart=False)
    run.settings.write(replace(LABELING, input=str(tmp_path / "moved away")))
    run.begin(replace(LABELING, input="/elsewhere"), restart=False)


def test_restart_drops_the_records(run: RunFolder) -> None:
    with_a_record(run)
    run.begin(OTHER, restart=True)
    assert list(run.record_paths()) == []
    assert run.shards() == []


@pytest.mark.parametrize("status", ["ok", "error"])
def test_failed_images_are_known(run: RunFolder, status: str) -> None:
    path = with_a_record(run, status)
    (record,) = read_records([path])
    assert run.failed() == ([record.image_id] if status == "error" else [])


def test_so_is_what_was_labeled_in_spite_of_its_tagger(run: RunFolder) -> None:
    path = with_a_record(run)
    (record,) = read_records([path])
    write_records(path, [replace(record, error="tagging failed: no luck")])
    assert run.failed() == [record.image_id]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_records_without_their_manifest_are_not_mixed_with_new_ones(run: RunFolder, damage: str) -> None:
    with_a_record(run)
    manifest = run.path / "images.parquet"
    manifest.unlink()
    if damage == "damaged":
        manifest.write_bytes(b"")
    with pytest.raises(RunError, match=f"images.parquet is {damage}.*--restart"):
        plan(run, ["b"], shard_size=1)


def test_a_second_process_is_refused_while_the_first_lives(run: RunFolder) -> None:
    held = (
        "import sys; from pathlib import Path; from workflows.run.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", held, str(run.output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="in use by another run"), run.locked():
        pass
    process.kill()  # however the first ends, its lock goes with it
    process.wait()
    with run.locked():
        pass


def test_a_folder_with_somebodys_data_is_left_alone(tmp_path: Path) -> None:
    picture = tmp_path / "images" / "mine.jpg"
    picture.parent.mkdir()
    picture.write_bytes(b"mine")
    with pytest.raises(RunError, match="holds images that no run made"), RunFolder(tmp_path).locked():
        pass
    assert picture.read_bytes() == b"mine"


def test_no_run_and_a_damaged_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(RunError, match="holds no run"):
        run.settings.read()
    run.path.mkdir()
    (run.path / "run.json").write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        run.settings.read()
    (run.path / "run.json").write_text('{"version": 99}')
    with pytest.raises(RunError, match=r"newer labeler.*update labeler"):
        run.settings.read()


# ---------------------------------------------------------------- what lies among the records, here and in a store


@pytest.fixture(params=["folder", "memory", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """A run of five images in shards of two, the first two labeled."""
    if request.param == "folder":
        output: Any = tmp_path / "out"
    elif request.param == "memory":
        output = locate(f"memory://{uuid.uuid4().hex}")
    else:
        output = locate(f"{request.getfixturevalue('bucket').uri}/out")
    run = RunFolder(output)
    with run.locked():
        run.begin(LABELING, restart=False)
        plan(run, ["a", "b", "c", "d", "e"], shard_size=2)
        for shard in run.shards()[:2]:
            label(shard.records_path, *shard.image_ids)
    return RunFolder(output)


def label(path: Any, *image_ids: str) -> None:
    write_records(path, [ImageRecord(image_id, 2, 2, "") for image_id in image_ids])


def labeled(run: RunFolder) -> str:
    return "".join(record.image_id for record in read_records(run.record_paths()))


def waiting(run: RunFolder) -> list[tuple[str, ...]]:
    return [shard.image_ids for shard in run.waiting()]


def test_the_shards_without_records_wait(anywhere: RunFolder) -> None:
    assert waiting(anywhere) == [("e",)]
    assert labeled(anywhere) == "abcd"
    label(next(iter(anywhere.waiting())).records_path, "e")
    assert (waiting(anywhere), labeled(anywhere)) == ([], "abcde")
    manifest = pandas.read_parquet(io.BytesIO(read_bytes(anywhere.path / "images.parquet")))
    assert list(manifest["shard"]) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("harm", ["cut", "empty", "text", "other run", "fewer", "other order"])
def test_records_that_are_not_whole_or_of_other_images_are_named_and_redone(
    anywhere: RunFolder, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = anywhere.records / "000001.parquet"
    if harm in ("cut", "empty", "text"):
        data = read_bytes(path)
        write_bytes(path, {"cut": data[:-20], "empty": b"", "text": b"dear diary\n"}[harm])
    else:
        label(path, *{"other run": "xy", "fewer": "c", "other order": "dc"}[harm])
    with caplog.at_level(logging.WARNING):
        assert labeled(anywhere) == "ab"
        assert waiting(anywhere) == [("c", "d"), ("e",)]
    (line,) = caplog.messages
    assert line.startswith(f"{path}: ")
    assert line.endswith("its 2 images count as not labeled")
    assert "\n" not in line
    assert info(path) is not None
    unusable, aside = read_bytes(path), anywhere.path / "unusable"
    with caplog.at_level(logging.WARNING):
        anywhere.set_unusable_aside()
    assert caplog.messages[1:] == [f"{path}: cannot be used ({fault_in(line)}); moved to {aside / path.name}"]
    assert info(path) is None
    assert read_bytes(aside / path.name) == unusable
    assert (waiting(anywhere), labeled(anywhere)) == ([("c", "d"), ("e",)], "ab")
    label(path, "c", "d")
    assert labeled(anywhere) == "abcd"


def fault_in(warning: str) -> str:
    """What the warning says is wrong with the file."""
    return warning.partition(": ")[2].rpartition("; ")[0]


def test_files_that_are_moved_aside_never_replace_each_other(anywhere: RunFolder) -> None:
    path = anywhere.records / "000001.parquet"
    for number in range(3):
        write_bytes(path, b"torn %d" % number)
        again = RunFolder(anywhere.output)
        again.set_unusable_aside()
        assert waiting(again) == [("c", "d"), ("e",)]
    aside = {
        found.name: read_bytes(anywhere.path / "unusable" / found.name) for found in scan(anywhere.path / "unusable")
    }
    assert aside == {"000001.parquet": b"torn 0", "000001_2.parquet": b"torn 1", "000001_3.parquet": b"torn 2"}


def test_restart_deletes_records_and_moves_aside_what_is_none(anywhere: RunFolder) -> None:
    """The labels that were asked to go go; what nobody has read yet, or a newer labeler wrote, does not."""
    torn, newer = anywhere.records / "000001.parquet", anywhere.records / "000002.parquet"
    table = pq.read_table(io.BytesIO(read_bytes(anywhere.records / "000000.parquet")))
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"labeler.schema_version": "99"}), buffer)
    write_bytes(torn, b"torn")
    write_bytes(newer, buffer.getvalue())
    anywhere.begin(OTHER, restart=True)
    assert not any(info(anywhere.records / f"00000{number}.parquet") for number in range(3))
    assert {found.name for found in scan(anywhere.path / "unusable")} == {torn.name, newer.name}
    assert read_bytes(anywhere.path / "unusable" / newer.name) == buffer.getvalue()


def test_records_of_a_newer_version_are_refused_and_kept(anywhere: RunFolder) -> None:
    path = anywhere.records / "000001.parquet"
    table = pq.read_table(io.BytesIO(read_bytes(path)))
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"labeler.schema_version": "99"}), buffer)
    write_bytes(path, buffer.getvalue())
    settings = read_bytes(anywhere.path / "run.json")
    run = RunFolder(anywhere.output)
    for attempt in (
        run.waiting,
        run.set_unusable_aside,
        run.failed,
        lambda: run.begin(replace(LABELING, other={"x": 1}), False),
    ):
        with pytest.raises(RunError, match=r"000001\.parquet was written by a newer labeler .*; update labeler$"):
            attempt()
    assert read_bytes(path) == buffer.getvalue()
    assert read_bytes(anywhere.path / "run.json") == settings


def test_foreign_files_are_named_and_left_out(anywhere: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    label(anywhere.records / "000007.parquet", "x", "y")  # of a run with more shards
    write_bytes(anywhere.records / "notes.parquet", b"dear diary")
    write_bytes(anywhere.records / "0000001.parquet", b"")
    write_bytes(anywhere.records / ".000002.parquet.partial", b"what a killed write left")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert labeled(anywhere) == "abcd"
            assert waiting(anywhere) == [("e",)]
    (line,) = caplog.messages
    assert line.endswith("not records of this run: 0000001.parquet, 000007.parquet, notes.parquet")
    with anywhere.locked():
        anywhere.begin(LABELING, restart=False)
    if isinstance(anywhere.records, Path):  # in a store, a killed write leaves nothing
        assert info(anywhere.records / ".000002.parquet.partial") is None
    plan(anywhere, [*"abcdefghijklmnop"], shard_size=2)  # its number's turn has come
    assert ("l", "m") in waiting(anywhere)
    assert labeled(anywhere) == "abcd"
    anywhere.begin(LABELING, restart=True)
    assert info(anywhere.records / "notes.parquet") is not None
    assert info(anywhere.records / "000007.parquet") is None


def test_failed_images_are_known_anywhere(anywhere: RunFolder) -> None:
    write_records(anywhere.records / "000001.parquet", [ImageRecord(i, 0, 0, "", "error", "torn") for i in "cd"])
    write_bytes(anywhere.records / "000002.parquet", b"torn")
    assert anywhere.failed() == ["c", "d"]
    assert waiting(anywhere) == [("e",)]


def test_a_damaged_run_in_a_store(anywhere: RunFolder) -> None:
    write_bytes(anywhere.path / "images.parquet", b"")
    with pytest.raises(RunError, match=r"images.parquet is damaged.*--restart"):
        plan(anywhere, ["b"], shard_size=1)
    write_bytes(anywhere.path / "run.json", b"{")
    with pytest.raises(RunError, match="is damaged"):
        anywhere.settings.read()
    empty = RunFolder(anywhere.output / "empty")
    with pytest.raises(RunError, match="holds no run"):
        empty.settings.read()


def test_somebodys_data_in_a_store_is_left_alone(anywhere: RunFolder) -> None:
    if not isinstance(anywhere.output, Path):
        other = anywhere.output / "other"
        write_bytes(other / "images" / "mine.jpg", b"mine")
        with pytest.raises(RunError, match="holds images that no run made"), RunFolder(other).locked():
            pass
        assert read_bytes(other / "images" / "mine.jpg") == b"mine"
