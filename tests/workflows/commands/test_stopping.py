"""Signals that end a command."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CLASSES, run_in_process, write_scenes
from workflows.commands import cli

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal on this system")


def hang_up_after(path: Path) -> None:
    """Send SIGHUP to this process, twice as a shell may do, as soon as ``path`` holds a record file."""
    deadline = time.monotonic() + 60
    while not list(path.glob("0*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)


@pytest.fixture
def with_hangup() -> Iterator[None]:
    """Even if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("with_hangup")
def test_a_hangup_ends_a_run_like_other_signals_and_says_so(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", range(40))  # more than are labeled before the signal comes
    out = tmp_path / "out"
    thread = threading.Thread(target=hang_up_after, args=[out / "run" / "records"])
    thread.start()
    command = ("label", tmp_path / "scenes", "-o", out, "--model", "demo", "--classes", CLASSES, "--device", "cpu")
    done = run_in_process(*command, "--shard-size", 1)
    thread.join()
    assert done.returncode == 130
    assert done.stderr == (
        "labeler: stopped by SIGHUP (the terminal was closed); re-run the same command to resume\n"
    )  # fmt: skip
    summary = json.loads((out / "run" / "summary.json").read_bytes())
    assert (summary["exit_code"], summary["error"]) == (130, "stopped by SIGHUP (the terminal was closed)")
    assert 0 < len(list((out / "run" / "records").glob("0*.parquet"))) < 40
    assert not list((out / "run" / "attempts").glob("*"))


def test_under_nohup_a_hangup_stays_ignored() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.main(["--version"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
