"""One run at a time: on a folder by real processes, in a store by what a run on another host would have left there."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from labeler.errors import RunError
from labeler.files.paths import FileInfo
from labeler.files.storage import info, locate, read_bytes, write_bytes
from tests.support.object_store import Bucket, Proxy, files_below
from workflows.run import locks
from workflows.run.locks import Owner, hold, read_owner

HOLDER = (
    "import sys; from labeler.files.storage import locate; from workflows.run.locks import hold\n"
    "with hold(locate(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


def start_holder(folder: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture(params=["folder", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        (tmp_path / "out" / "run").mkdir(parents=True)
        return tmp_path / "out" / "run"
    return locate(f"{request.getfixturevalue('bucket').uri}/out/run")


def test_held_by_one_and_left_without_a_trace(folder: Any) -> None:
    with hold(folder) as still_held:
        still_held()
        owner = read_owner(folder / "owner.json")
        assert owner is not None
        assert (owner.host, owner.pid) == (socket.gethostname(), os.getpid())
        with pytest.raises(RunError, match=rf"out is in use by another run \(process {os.getpid()} on "), hold(folder):
            pass
        assert read_owner(folder / "owner.json") == owner  # the refused one took nothing with it
    assert info(folder / "owner.json") is None
    with pytest.raises(ZeroDivisionError), hold(folder):
        raise ZeroDivisionError
    assert info(folder / "owner.json") is None


def test_a_living_process_is_named_and_a_killed_one_is_followed_with_a_word(
    folder: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.01)
    process = start_holder(folder)
    with pytest.raises(RunError) as refused, hold(folder):
        pass
    named = re.search(r"in use by another run \(process (\d+) on (\S+), since (\S+)\); wait for it", str(refused.value))
    assert named is not None
    assert (named[1], named[2]) == (str(process.pid), socket.gethostname())
    assert datetime.fromisoformat(named[3]).tzinfo is not None
    assert "\n" not in str(refused.value)
    process.kill()
    process.wait()
    with caplog.at_level(logging.WARNING), hold(folder):
        pass
    assert f"the previous run (process {process.pid} on " in caplog.text
    caplog.clear()
    with hold(folder):
        pass
    assert caplog.text == ""


def left_by(path: Any, **fields: Any) -> Owner:
    """A lock as a run on another host leaves it."""
    content = {
        "host": "elsewhere",
        "pid": 4711,
        "since": "2026-01-02T03:04:05+00:00",
        "token": "t",
        "beat": time.time(),
    }
    write_bytes(path, json.dumps(content | fields).encode())
    owner = read_owner(path)
    assert owner is not None
    return owner


@pytest.fixture
def store(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    return locate(f"{bucket.uri}/out/run")


@pytest.mark.parametrize(
    ("fields", "taken_over"),
    [
        ({}, False),
        ({"beat": 0}, False),  # a host whose clock is far behind, or ours is ahead
        ({"beat": 1e12}, False),
        ({"host": socket.gethostname(), "pid": os.getpid()}, False),
        ({"host": socket.gethostname(), "pid": 2**22 + 1}, True),  # above the largest process id of Linux
        ({"host": "elsewhere", "pid": 2**22 + 1}, False),
    ],
)
def test_whose_hold_ends(
    store: Any, fields: dict[str, Any], taken_over: bool, caplog: pytest.LogCaptureFixture
) -> None:
    left_by(store / "owner.json", **fields)
    if taken_over:
        with hold(store):
            pass
        assert "ended unexpectedly" in caplog.text
    else:
        with pytest.raises(RunError, match="since 2026-01-02T03:04:05"), hold(store):
            pass
        assert info(store / "owner.json") is not None


@pytest.mark.parametrize("ahead", [-1000, 0, 1000])
@pytest.mark.parametrize(("seconds_ago", "taken_over"), [(10, False), (170, False), (190, True)])
def test_the_clock_of_the_store_counts(
    seconds_ago: float, taken_over: bool, ahead: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store whose objects can be made older, and a host whose clock is ``ahead`` of it."""
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.0)
    clock = time.time
    monkeypatch.setattr(locks.time, "time", lambda: clock() + ahead)
    lock = locate(f"memory://{uuid.uuid4().hex}/run") / "owner.json"
    left_by(lock)
    lock.fs.store[lock.path].created = datetime.now(UTC) - timedelta(seconds=seconds_ago)  # type: ignore[union-attr]
    if taken_over:
        with hold(lock.parent):
            pass
    else:
        with pytest.raises(RunError, match="in use by another run"), hold(lock.parent):
            pass
    assert files_below(lock.parent) == ([] if taken_over else ["owner.json"])


def test_a_store_without_times_keeps_the_lock(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by(store / "owner.json", beat=0)
    monkeypatch.setattr(locks, "info", lambda path: FileInfo(path.name, is_folder=False))
    with pytest.raises(RunError, match="in use by another run"), hold(store):
        pass


def test_a_damaged_lock_is_nobodys(store: Any) -> None:
    odd = b'{"host": "x", "pid": "x", "since": "x", "token": "x", "beat": 1}'
    for content in (b"", b"{", b"[]", b'{"host": 1}', odd):
        write_bytes(store / "owner.json", content)
        with hold(store):
            pass


def test_the_hold_is_renewed(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with hold(store) as still_held:
        beats = set()
        deadline = time.monotonic() + 20
        while len(beats) < 3 and time.monotonic() < deadline:
            owner = read_owner(store / "owner.json")
            assert owner is not None
            beats.add(owner.beat)
            time.sleep(0.02)
        assert len(beats) == 3
        still_held()


def test_a_run_whose_hold_was_taken_stops_and_leaves_the_other_one(store: Any) -> None:
    def wait_for_loss(check: Any) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            check()
            time.sleep(0.02)

    with hold(store) as still_held:
        other = left_by(store / "owner.json")
        with pytest.raises(RunError, match=r"was taken over by another run \(process 4711 on elsewhere"):
            wait_for_loss(still_held)
    assert read_owner(store / "owner.json") == other


def test_only_one_of_two_takes_a_dead_runs_place(store: Any) -> None:
    left_by(store / "owner.json", host=socket.gethostname(), pid=2**22 + 1)
    command = [sys.executable, "-c", HOLDER, str(store)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
    deadline = time.monotonic() + 60
    while all(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    refused = [process for process in processes if process.poll() is not None]
    outputs = {process: process.communicate(timeout=60) for process in (*refused, *set(processes) - set(refused))}
    assert len(refused) == 1
    assert "in use by another run" in outputs.pop(refused[0])[1]
    assert next(iter(outputs.values()))[0] == "held\n"


def test_an_answer_that_was_lost_is_no_other_run(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock was made, but its answer never came: the second try finds its own lock."""
    store = locate(f"{bucket.uri}/out/run")
    made = []

    def lose(method: str, path: str, before: int) -> str:
        if method == "PUT" and not made:
            made.append(path)
            return "lose"
        return ""

    proxy.fail = lose
    with hold(store):
        assert len(made) == 1
        assert json.loads(read_bytes(store / "owner.json"))["pid"] == os.getpid()
    assert bucket.contents("out/") == {}
