"""Progress while a job runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from workflows.run.shard_report import ShardReport

SECONDS_BETWEEN_LINES = 9.0  # without a terminal; with the ticks, no more than ten seconds pass in silence
SECONDS_BETWEEN_TICKS = 0.5


@contextmanager
def in_stage(console: Console, doing: str) -> Iterator[None]:
    """Say what the block does, and that it still does."""
    progress = ConsoleProgress(console)
    progress.stage(doing)
    try:
        yield
    finally:
        progress.close()


class ConsoleProgress:
    """Tells which stage a job is in, and how far it is. ``close`` it in the end.

    Args:
        doing, done: what happens to an image.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        console: Console,
        doing: str = "labeling",
        done: str = "labeled",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._console, self._clock = console, clock
        self._doing, self._did = doing, done
        self._done = ShardReport()
        self._stage, self._total, self._entered = "", 0, clock()
        self._bar: Progress | None = None
        self._said = clock()
        self._lock = threading.RLock()  # the ticks come from a thread of their own
        self._closed = threading.Event()
        self._ticking = False

    def begin(self, images: int, already_labeled: int) -> None:
        """All images of the job are known."""
        if already_labeled:
            self.say(f"{already_labeled} of {images} images are {self._did} already")

    def stage(self, doing: str, images: int = 0) -> None:
        """A stage begins, and the one before it is over.

        Args:
            doing: what happens, such as "loading the models".
            images: how many are worked on; ``advance`` tells of each shard of them.
        """
        with self._lock:
            self._stop_bar()
            self._stage, self._total, self._entered = doing, images, self._clock()
            self.say(f"{doing} {images} image{'s' if images != 1 else ''}" if images else doing)
            if images:
                self._done = ShardReport()
            if self._console.is_terminal:
                if images:
                    self._start_bar()
            elif not self._ticking:
                self._ticking = True
                threading.Thread(target=self._tick_on, name="progress", daemon=True).start()

    def advance(self, report: ShardReport) -> None:
        with self._lock:
            self._done.add(report)
            if self._bar:
                self._bar.update(self._task, completed=self._done.images, figures=self._figures())
            else:
                self.tick()

    def say(self, message: str) -> None:
        with self._lock:
            self._console.print(message, highlight=False, markup=False)
            self._said = self._clock()

    def tick(self) -> None:
        """Say how far the stage is, if nothing was said for a while and there is no bar."""
        with self._lock:
            now = self._clock()
            if self._stage and not self._bar and now - self._said >= SECONDS_BETWEEN_LINES:
                self.say(self._line(now))

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            self._stage = ""
            self._stop_bar()

    def _tick_on(self) -> None:
        while not self._closed.wait(SECONDS_BETWEEN_TICKS):
            self.tick()

    def _line(self, now: float) -> str:
        if not self._total:
            return f"{self._stage}, {now - self._entered:.0f} s so far"
        if not self._done.images:
            return f"0/{self._total} images, {now - self._entered:.0f} s so far"
        left = (self._total - self._done.images) * self._seconds() / self._done.images
        return f"{self._done.images}/{self._total} images, {self._figures()}, {left:.0f} s left"

    def _figures(self) -> str:
        seconds = self._seconds()
        found = f", {self._done.objects} candidates" if self._doing == "labeling" else ""
        rate = f"{self._done.images / seconds:.1f} images/s{of_workers(self._done, seconds)}"
        return f"{rate}{found}, {len(self._done.failures)} failed"

    def _seconds(self) -> float:
        """Since the first image was begun; models may have been loaded before."""
        return max(self._clock() - self._done.began, 1e-3)

    def _start_bar(self) -> None:
        self._bar = Progress(
            TextColumn(self._doing),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._doing, total=self._total, figures="")

    def _stop_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def of_workers(done: ShardReport, seconds: float) -> str:
    """The rates of single workers, if there are several."""
    if len(done.workers) < 2:
        return ""
    rates = [images / seconds for images in done.workers.values()]
    return f" by {len(rates)} workers ({min(rates):.1f} to {max(rates):.1f} each)"
