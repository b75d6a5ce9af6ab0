"""Publishing a dataset: only what changed is written, and nothing that the user made or edited is touched.

For every file that the dataset is to have, a ``Plan`` says what becomes of it: it is there as it should be, it is to be
put or moved, or the user edited it and it stays. ``finish`` carries the plans out by a journal (``journal.py``)
and keeps the ledger of what was written (``ledger.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.images import file_digest
from labeler.files.storage import info, remove
from workflows.dataset.file_names import FileNames
from workflows.dataset.images import ImagePlanner, Originals
from workflows.dataset.journal import JOURNAL, VERDICTS, Operation, after, read_journal, write_journal
from workflows.dataset.ledger import Entry, Ledger, names_given, read_ledger, to_table, write_ledger
from workflows.dataset.places import LocalPlace, place_of
from workflows.dataset.planning import Plan, Planner

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

LEDGER = "run/ledger.parquet"
LAST = ("annotations", "data.yaml")  # published last, in this order: readers begin with them


class Dataset:
    """A dataset while it is published. Left before ``finish``, it stays as it was.

    Args:
        link: as in ``ExportConfig``.
        prune: images that are gone from the input may be deleted.

    Attributes:
        files, images: make the plans; ``commit`` takes them in.
        names: gives images their names.
        edited: files that were to be written or removed, and stay as the user left them.
        restored: files that somebody deleted, and that are written again.
        set_aside: images that were to be removed, and may be the last copy.
    """

    def __init__(self, files: Planner, originals: Originals, link: str, prune: bool = False) -> None:
        self.files = files
        self.images = ImagePlanner(files, originals, link)
        self.place, self._ledger = files.place, files.ledger
        self.originals = originals
        self.names = FileNames(*names_given(self._ledger))
        self.edited: list[str] = []
        self.restored: list[str] = []
        self.set_aside: list[str] = []
        self._prune = prune
        self._kept = np.zeros(len(self._ledger), dtype=np.bool_)
        self._edited_rows: set[int] = set()
        self._entries: list[Entry] = []
        self._operations: list[Operation] = []

    def commit(self, plans: Iterable[Plan]) -> None:
        """Take plans in; they come to effect with ``finish``."""
        for plan in plans:
            if plan.row is not None:
                self._kept[plan.row] = True
                self._edited_rows.update([plan.row] if plan.edited else [])
            if plan.entry is not None:
                self._entries.append(plan.entry)
            if plan.operation is not None:
                self._operations.append(plan.operation)
            if plan.edited:
                self.edited.append(plan.name)
            if plan.restored:
                self.restored.append(plan.name)

    def publish_verdicts(self) -> None:
        """Take in the verdicts that were made in ``building``, unless they are those that are there."""
        made = self.place.building / VERDICTS
        if (digest := file_digest(made)) == self.place.digest(VERDICTS):
            made.unlink()
        else:
            self._operations.append(Operation("put", VERDICTS, expected=self.place.stamp(VERDICTS), digest=digest))

    # ------------------------------------------------------------ publishing

    def planned(self) -> list[Entry]:
        """Of the files that are to be put."""
        return [each.entry() for each in self._operations if each.adds and each.name != VERDICTS]

    def finish(self) -> None:
        """Carry out all plans, and remove what no plan keeps."""
        removed, replaced = self._removals(), self._replaced_by_another_input()
        kept = self._ledger.table.filter(pa.array(self._kept))
        if self.files.stamps:
            rows = np.flatnonzero(self._kept).tolist()
            old = kept.column("stamp").to_pylist()
            stamps = [self.files.stamps.get(row, stamp) for row, stamp in zip(rows, old, strict=True)]
            kept = kept.set_column(1, kept.schema.field(1), pa.array(stamps, pa.string()))
        kept = pa.concat_tables([kept, to_table(self._entries)])
        first = [each for each in self._operations if _rank(each) == 0]
        last = [[each for each in self._operations if _rank(each) == rank] for rank in (1, 2)]
        phases = [phase for phase in (replaced, first, removed, *last) if phase]
        operations = [operation for phase in phases for operation in phase]
        ledger, journal, root = self.place.path(LEDGER), self.place.path(JOURNAL), str(self.originals.root)
        if not operations:
            if not kept.equals(self._ledger.table) or info(ledger) is None or self._ledger.root != root:
                write_ledger(ledger, kept, root)
            remove(journal)
            return
        # Should this run die, the next one knows what is this tool's by the ledger and the journal together.
        entries = pa.array([entry.name for entry in self._entries], pa.string())
        others = self._ledger.table.filter(pa.array(~self._kept))
        others = others.filter(pc.invert(pc.is_in(others.column("name"), entries)))
        write_ledger(ledger, pa.concat_tables([kept, others]), self._ledger.root)
        self.place.settle()
        write_journal(journal, operations)
        added = self.place.carry_out(phases)
        write_ledger(ledger, after(kept, operations, added), root)
        remove(journal)

    def _removals(self) -> list[Operation]:
        """For every entry that no plan keeps or replaces."""
        done = {name for each in self._operations for name in (each.name, each.source)}
        done |= {entry.name for entry in self._entries}
        removals = []
        for row in np.flatnonzero(~self._kept).tolist():
            entry = self._ledger.at(row)
            if entry.name in done:
                continue
            seen = self.files.look(entry.name)
            if seen.stamp and not seen.is_ours and not self.files.overwrite:
                self._kept[row] = True
                self._edited_rows.add(row)
                self.edited.append(entry.name)
                continue
            is_last = entry.name.startswith("images/") and seen.stamp != "" and self._may_be_last(entry)
            if is_last:
                self.set_aside.append(entry.name)
            old = seen.digest if seen.is_ours else ""
            do: Literal["set aside", "delete"] = "set aside" if is_last else "delete"
            removals.append(Operation(do, entry.name, expected=seen.stamp, old=old))
        return removals

    def _replaced_by_another_input(self) -> list[Operation]:
        """Images of an earlier input that the images of this one take the place of are set aside first.

        An image that changed within one input was replaced by the user.
        """
        if self._ledger.root in ("", str(self.originals.root)):
            return []
        aside = []
        for number, put in enumerate(self._operations):
            row = self._ledger.row(put.name) if put.do == "put" and put.name.startswith("images/") else None
            if row is None or not put.old or put.old == put.digest or not self._may_be_last(self._ledger.at(row)):
                continue
            aside.append(Operation("set aside", put.name, expected=put.expected, old=put.old))
            self._operations[number] = replace(put, expected="", old="")
            self.set_aside.append(put.name)
        return aside

    @cached_property
    def _contents(self) -> set[str]:
        """Digests of all that the dataset keeps or gets; asked for once everything is planned."""
        as_written = self._kept.copy()
        as_written[list(self._edited_rows)] = False
        kept = set(self._ledger.table.filter(pa.array(as_written)).column("digest").to_pylist())
        return kept | {entry.digest for entry in self._entries} | {each.digest for each in self._operations}

    def _may_be_last(self, entry: Entry) -> bool:
        """Whether no other copy of an image is known, and it was not asked for that it goes."""
        if entry.digest in self._contents:
            return False
        if self._prune and not self.originals.may_hold(entry.image_id):
            return False
        path = self.place.path(entry.name)
        if isinstance(path, Path) and (path.is_symlink() or path.stat().st_nlink > 1):
            return False
        return not self.originals.has(entry.image_id, entry.digest)

    def __enter__(self) -> Dataset:
        self.place.clean_up()
        self.place.building.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.place.clean_up()


def _rank(operation: Operation) -> int:
    """When a new file is published: COCO and ``data.yaml`` come last."""
    entry = operation.name.partition("/")[0]
    return LAST.index(entry) + 1 if entry in LAST else int(operation.name == VERDICTS)


def open_dataset(
    output: AnyPath,
    originals: Originals,
    link: str,
    adopted: Callable[[], Iterable[Entry]],
    overwrite: bool = False,
    prune: bool = False,
) -> Dataset:
    """The dataset in ``output``, to be published; the output is locked.

    Args:
        adopted: entries of what an export of a version without ledgers wrote.
    """
    place = place_of(output)
    ledger, begun = read_ledger(place.path(LEDGER)), read_journal(place.path(JOURNAL))
    if ledger is None:
        is_old = info(place.path(VERDICTS)) is not None and not begun
        ledger = Ledger(to_table(adopted() if is_old else ()))
    # In a store, what an export had begun that died may be there or not. A folder of this machine was recovered.
    if there := [each for each in begun if each.adds and place.digest(each.name) == each.digest]:
        replaced = [replace(each, source="") for each in there]  # what was copied may still be where it was, too
        table = after(ledger.table, replaced, (each.entry(place.stamp(each.name)) for each in there))
        ledger = Ledger(table, ledger.root)
    return Dataset(Planner(place, ledger, overwrite), originals, link, prune)


def recover(output: AnyPath) -> None:
    """Bring to its end an export that died while it changed the dataset, and remove what killed writes left.

    In a store the next export knows by the journal which files are this tool's. The output is locked.

    Raises:
        RunError: the journal or the ledger cannot be used.
    """
    if not isinstance(output, Path):
        return
    place = LocalPlace(output)
    if operations := read_journal(output / JOURNAL):
        ledger = read_ledger(output / LEDGER)
        added = place.carry_out([operations])
        table = after(ledger.table if ledger else to_table(()), operations, added)
        write_ledger(output / LEDGER, table, ledger.root if ledger else "")
        remove(output / JOURNAL)
    place.clean_up()


def file_names(output: AnyPath) -> dict[str, str]:
    """The names that images have in the dataset, below ``images/SPLIT``, where they differ from the image's id."""
    ledger = read_ledger(output / LEDGER)
    return names_given(ledger)[0] if ledger else {}
