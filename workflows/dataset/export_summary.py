"""What an export wrote and left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labeler.decisions import Decision
from workflows.dataset.polygon_fit import PolygonFits
from workflows.dataset.split_notes import to_json
from workflows.dataset.splitting import SplitSummary
from workflows.dataset.versions import Version
from workflows.run.summary import RunSummary
from workflows.settings.resolved import Settled
from workflows.settings.text import changed_split_flags, changes, thresholds_in_force

if TYPE_CHECKING:
    pass


@dataclass
class ExportSummary:
    """What an export wrote and left out.

    Attributes:
        edited: files that the user edited or put in the place of the dataset's, and that stay as they are.
        restored: files that somebody deleted, and that were written again.
        set_aside: images that no record shows any more; each may be the last copy, so it is in ``run/set-aside``.
        failures: (image id, error) of every image that is left out for an error, new or old.
        found_failed: those of them that were labeled, and failed when the dataset was written.
        new: ids of the images that no earlier run has reported as failed.
        sights: how many images the tools see that read the formats, in lines.
        seen: the same by the name of the tool.
        polygons: how near polygons are to the masks, where they are not exact.
        decided: instances that a person decided on, by verdict; added ones are accepted.
        splits: groups, leaks, and what was moved.
        empty_split: in one line, what it means that no image is in val or train; empty if there are some.
        split_flags: those that changed since the last dataset, while images kept the split that they had.
        unmatched: decisions of people that no instance fits any more, those on images that are left out among them.
        thresholds: those in force, in one line.
        changed: each setting that differs from the last dataset's, such as "accept score 0.30 → 0.70".
        nothing_accepted: what to tell where nothing was accepted, at all or of a class.
        version: what the dataset was published as, beside the working folder; None without versions.
    """

    images: Counter[str] = field(default_factory=Counter)  # by split
    verdicts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # by class name
    reasons: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    found_failed: set[str] = field(default_factory=set)
    new: AbstractSet[str] = frozenset()
    missing: list[str] = field(default_factory=list)  # labeled once, gone since from the input and the dataset
    labeled_missing: int = 0  # of these, without an error
    edited: list[str] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    without_objects: int = 0
    converted: Counter[str] = field(default_factory=Counter)  # to PNG, by extension or another cause
    sights: list[str] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)
    polygons: PolygonFits = field(default_factory=PolygonFits)
    decided: Counter[str] = field(default_factory=Counter)
    unmatched: list[Decision] = field(default_factory=list)
    splits: SplitSummary = field(default_factory=SplitSummary)
    empty_split: str = ""
    split_flags: tuple[str, ...] = ()
    thresholds: str = ""
    changed: tuple[str, ...] = ()
    nothing_accepted: list[str] = field(default_factory=list)
    version: Version | None = None

    @property
    def new_failures(self) -> list[tuple[str, str]]:
        return [failure for failure in self.failures if failure[0] in self.new]

    @property
    def old_failures(self) -> list[tuple[str, str]]:
        return [failure for failure in self.failures if failure[0] not in self.new]

    def describe(self, settled: Settled) -> None:
        """Take over what the dataset was written with."""
        self.thresholds = thresholds_in_force(settled.in_force)
        if settled.started_from:
            self.thresholds += f" (started from the defaults for {settled.started_from.title})"
        self.changed = changes(settled.compared, settled.in_force)
        if self.splits.kept and not self.splits.resplit:
            self.split_flags = changed_split_flags(settled.published, settled.in_force)

    def add_to(self, run: RunSummary) -> None:
        """Enter what is in the dataset, and the exit code that follows from it, into the summary of the run."""
        run.images.update(self.images)
        run.images["without_objects"] = self.without_objects
        run.images["missing"] = len(self.missing)
        run.reading["converted"] = dict(self.converted)
        run.reading["seen_by"] = self.seen
        run.polygons = self.polygons.figures()
        run.splits = to_json(self.splits)
        run.dataset_version = self.version.path.name if self.version else None
        for verdicts in self.verdicts.values():
            run.instances.update(verdicts)
        run.failed(self.new_failures, self.old_failures, sum(self.images.values()))
