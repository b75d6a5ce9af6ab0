"""What a run tells while it works; time is a number that the tests set."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.stand_in import StandIn, stand_in_job, write_images
from workflows.commands import progress as progress_module
from workflows.commands.progress import ConsoleProgress
from workflows.label import label
from workflows.run.shard_report import ShardReport


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Told:
    """A progress that prints to ``lines``."""

    def __init__(self, terminal: bool = False) -> None:
        self.file, self.clock = io.StringIO(), Clock()
        console = Console(file=self.file, force_terminal=terminal, width=200)
        self.progress = ConsoleProgress(console, clock=self.clock)

    def after(self, seconds: float) -> list[str]:
        """The lines that are new after so many seconds, in which the clock ticks."""
        before = len(self.lines)
        for _ in range(round(seconds * 2)):
            self.clock.now += 0.5
            self.progress.tick()
        return self.lines[before:]

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """The tests make the ticks themselves, so the thread makes none."""
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_TICKS", 1e6)
    return Told()


def test_a_stage_is_told_at_once_and_at_least_every_ten_seconds(told: Told) -> None:
    told.progress.stage("loading the models")
    assert told.lines == ["loading the models"]
    assert told.after(8) == []
    assert told.after(2) == ["loading the models, 9 s so far"]
    lines = told.after(60)
    assert 6 <= len(lines) <= 7
    told.progress.say("starting 2 workers")
    assert told.after(8) == [], "any line will do"
    told.progress.stage("writing the dataset")
    assert told.after(10) == ["writing the dataset, 9 s so far"]
    told.progress.close()
    assert told.after(30) == []


def test_the_rate_counts_from_the_first_image_and_not_from_loading(told: Told) -> None:
    told.progress.begin(100, 40)
    told.progress.stage("labeling", 60)
    assert told.lines == ["40 of 100 images are labeled already", "labeling 60 images"]
    assert told.after(30)[-1] == "0/60 images, 27 s so far"  # workers load the models, or a batch is long
    told.clock.now = 1040.0
    told.progress.advance(ShardReport(images=20, objects=50, began=1030.0, first_image=1039.0))
    assert told.lines[-1] == "20/60 images, 2.0 images/s, 50 candidates, 0 failed, 20 s left"
    assert told.after(10)[-1] == "20/60 images, 1.1 images/s, 50 candidates, 0 failed, 38 s left"
    told.progress.close()


def test_on_a_terminal_the_bar_begins_with_labeling(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(terminal=True)
    told.progress.stage("loading the models")
    assert "━" not in told.file.getvalue(), "a bar would get between those of downloads"
    told.progress.stage("labeling", 60)
    told.progress.advance(ShardReport(images=30, began=1000.0))
    told.progress.stage("writing the dataset")
    assert "30/60" in told.file.getvalue()
    assert "━" in told.file.getvalue()
    told.progress.close()


def test_a_job_tells_its_stages_and_when_the_models_began(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [20] * 5)
    told = Told()
    summary = label(stand_in_job(tmp_path / "images", tmp_path / "out", StandIn()), told.progress)
    told.progress.close()
    stages = ["listing the images", "loading the models", "labeling 5 images", "writing the dataset"]
    assert [line for line in told.lines if line in stages] == stages
    assert summary.labeled.began <= summary.labeled.first_image


def test_the_thread_ticks_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_TICKS", 0.001)
    told = Told()
    told.progress.stage("listing the images")
    told.clock.now += 60
    deadline = time.monotonic() + 30
    while len(told.lines) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert told.lines[1] == "listing the images, 60 s so far"
    told.progress.close()
