"""The rows of ``gpu.py``'s table, and which of them there is time for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

USUAL_SECONDS, COMPILING_SECONDS = 25.0, 90.0  # that a row takes, as long as none was measured

COLOURS = ("red", "blue", "green", "yellow")
SHAPES = ("circle", "square", "star", "ring", "heart")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    preset: str
    size: str
    classes: int
    precision: str
    batch: int
    compiled: bool = False

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)[: self.classes]

    @property
    def models(self) -> tuple[str, str, bool]:
        """Cases that are equal in this share their models."""
        return self.preset, self.precision, self.compiled

    def __str__(self) -> str:
        compiled = "on" if self.compiled else "off"
        return f"{self.preset} | {self.size} | {self.classes} | {self.precision} | {self.batch} | {compiled}"


def cases(presets: Sequence[str], batch: int) -> Iterator[Case]:
    """The most telling first for all presets, since time may run out; those that share models in a row."""
    for preset in presets:
        yield Case(preset, "640x480", 1, "bf16", batch)
        yield Case(preset, "1080p", 20, "bf16", batch)
        yield Case(preset, "4K", 20, "bf16", batch)
    for preset in presets:
        yield Case(preset, "640x480", 1, "bf16", batch, compiled=True)
    for preset in presets:
        yield Case(preset, "640x480", 20, "bf16", batch)
        yield Case(preset, "640x480", 1, "bf16", 1)
        yield Case(preset, "640x480", 1, "bf16", 4 * batch)
    for preset in presets:
        yield Case(preset, "640x480", 1, "fp32", batch)


class Budget:
    """Lets a case begin if it will probably end within ``minutes`` from now, by the longest like it so far."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes
        self._longest: dict[bool, float] = {}

    def has_room(self, case: Case) -> bool:
        usual = COMPILING_SECONDS if case.compiled else USUAL_SECONDS
        return time.monotonic() + self._longest.get(case.compiled, usual) <= self._end

    def note(self, case: Case, seconds: float) -> None:
        """``case`` took so long."""
        self._longest[case.compiled] = max(self._longest.get(case.compiled, 0.0), seconds)
