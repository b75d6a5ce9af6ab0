"""Publish a dataset: write only what changed, and touch nothing that the user created or edited.

For every file of the new dataset, a ``Plan`` says what to do: keep the existing file, put or move a file there, or
leave the user's edited file. ``finish`` carries out the plans with a journal (``journal.py``) and updates the ledger of
written files (``ledger.py``).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labeler.files.conversion import source_at
from labeler.files.images import file_digest
from labeler.files.storage import as_local, info, remove
from labeler.formats.hugging_face import METADATA
from labeler.formats.roboflow import ANNOTATIONS
from workflows.dataset.destination import destination_of
from workflows.dataset.file_names import shows_image
from workflows.dataset.images import ImagePlanner
from workflows.dataset.journal import BESIDE, JOURNAL, VERDICTS, Operation, after, read_journal, write_journal
from workflows.dataset.layouts import image_names
from workflows.dataset.ledger import LEDGER, Entry, Ledger, read_ledger, to_table, write_ledger
from workflows.dataset.originals import Originals
from workflows.dataset.planning import Plan, Planner
from workflows.dataset.versions import links_in_versions

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

# What is published last, in this order, since readers start with it: top folders and names of files.
LAST = (("annotations", ANNOTATIONS, METADATA, "README.md"), ("data.yaml", "semantic.yaml"))


class Dataset:
    """A dataset that is being published. Nothing changes before ``finish``.

    Args:
        link: as in ``ExportConfig``.
        prune: delete images that are gone from the input, instead of setting them aside.
        layout: as ``image_names`` takes it.

    Attributes:
        files, images: create plans, to be passed to ``commit``.
        ledger: the files of the dataset as it is.
        names: assigns file names to images, which hold if they are not converted.
        converted: ids of images that the dataset has as a PNG of another name.
        edited: files that the dataset would replace or delete, but keeps because the user edited them.
        restored: files that someone deleted, and that are written again.
        set_aside: images that the dataset would delete, but that may be the last copy.
    """

    def __init__(
        self, files: Planner, originals: Originals, link: str, prune: bool = False, layout: str | None = None
    ) -> None:
        self.files = files
        self.images = ImagePlanner(files, originals, link)
        self.destination, self.ledger = files.destination, files.ledger
        self.originals = originals
        self.names, self.converted = image_names(self.ledger, self.destination, layout)
        self.edited: list[str] = []
        self.restored: list[str] = []
        self.set_aside: list[str] = []
        self._prune = prune
        self._kept = np.zeros(len(self.ledger), dtype=np.bool_)
        self._edited_rows: set[int] = set()
        self._entries: list[Entry] = []
        self._operations: list[Operation] = []

    def commit(self, plans: Iterable[Plan]) -> None:
        """Add plans, which ``finish`` carries out."""
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

    def publish_beside(self, name: str) -> None:
        """Add the file ``name`` of ``BESIDE`` that was created in ``building``, unless it equals the published one."""
        made = self.destination.building / name
        if (digest := file_digest(made)) == self.destination.digest(name):
            made.unlink()
        else:
            self._operations.append(Operation("put", name, expected=self.destination.stamp(name), digest=digest))

    def files_after(self) -> set[tuple[str, str]]:
        """(name, digest) of each file of the dataset that is planned so far; an edited one as it is now."""
        kept = self._kept.copy()
        kept[list(self._edited_rows)] = False
        rows = self.ledger.table.filter(pa.array(kept))
        files = set(zip(*(rows.column(each).to_pylist() for each in ("name", "digest")), strict=True))
        files |= {(each.name, each.digest) for each in (*self._entries, *self.planned())}
        return files | {(name, self.destination.digest(name)) for name in self.edited}

    # ------------------------------------------------------------ publishing

    def planned(self) -> list[Entry]:
        """The entries of the files that would be written."""
        return [each.entry() for each in self._operations if each.adds and each.name not in BESIDE]

    def finish(self) -> None:
        """Carry out all plans, and delete files of the old dataset that no plan keeps."""
        removed, replaced = self._removals(), self._replaced_by_another_input()
        kept = self.ledger.table.filter(pa.array(self._kept))
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
        ledger, journal, root = self.destination.path(LEDGER), self.destination.path(JOURNAL), str(self.originals.root)
        if not operations:
            if not kept.equals(self.ledger.table) or info(ledger) is None or self.ledger.root != root:
                write_ledger(ledger, kept, root)
            remove(journal)
            return
        # If this run is killed, ledger and journal together tell the next one which files the tool has written.
        entries = pa.array([entry.name for entry in self._entries], pa.string())
        others = self.ledger.table.filter(pa.array(~self._kept))
        others = others.filter(pc.invert(pc.is_in(others.column("name"), entries)))
        write_ledger(ledger, pa.concat_tables([kept, others]), self.ledger.root)
        self.destination.settle()
        write_journal(journal, operations)
        added = self.destination.carry_out(phases)
        write_ledger(ledger, after(kept, operations, added), root)
        remove(journal)

    def _removals(self) -> list[Operation]:
        """An operation for every entry that no plan keeps or replaces."""
        done = {name for each in self._operations for name in (each.name, each.source)}
        done |= {entry.name for entry in self._entries}
        removals = []
        aside = set[str]()  # digests of images that are set aside
        replaced = self._replaced_by_the_user()
        for row in np.flatnonzero(~self._kept).tolist():
            entry = self.ledger.at(row)
            if entry.name in done:
                continue
            seen = self.files.look(entry.name)
            is_input = self.originals.is_linked(entry.image_id, self.destination.path(entry.name))
            if seen.stamp and not seen.is_ours and not self.files.overwrite and not is_input:
                self._kept[row] = True
                self._edited_rows.add(row)
                self.edited.append(entry.name)
                continue
            is_last = shows_image(entry.name) and seen.stamp != "" and entry.image_id not in replaced
            is_last = is_last and self._may_be_last(entry)
            if is_last := is_last and entry.digest not in aside:
                self.set_aside.append(entry.name)
                aside.add(entry.digest)
            old = seen.digest if seen.is_ours else ""
            do: Literal["set aside", "delete"] = "set aside" if is_last else "delete"
            removals.append(Operation(do, entry.name, expected=seen.stamp, old=old))
        return removals

    def _replaced_by_the_user(self) -> set[str]:
        """Ids of images that come into the dataset anew from the input that they had before.

        If the user replaced one, its file may get another name, since it is converted to PNG now, or not any more.
        """
        puts = self._operations if self.ledger.root == str(self.originals.root) else []
        return {each.image_id for each in puts if each.do == "put" and each.name.startswith("images/")}

    def _replaced_by_another_input(self) -> list[Operation]:
        """Operations that set aside images of an earlier input before images of this input replace them.

        Within one input they are not set aside: the user replaced the image.
        """
        if self.ledger.root in ("", str(self.originals.root)):
            return []
        aside = []
        for number, put in enumerate(self._operations):
            row = self.ledger.row(put.name) if put.do == "put" and put.name.startswith("images/") else None
            if row is None or not put.old or put.old == put.digest or not self._may_be_last(self.ledger.at(row)):
                continue
            aside.append(Operation("set aside", put.name, expected=put.expected, old=put.old))
            self._operations[number] = replace(put, expected="", old="")
            self.set_aside.append(put.name)
        return aside

    @cached_property
    def _contents(self) -> set[str]:
        """Digests of all files in the new dataset; valid once everything is planned."""
        as_written = self._kept.copy()
        as_written[list(self._edited_rows)] = False
        kept = set(self.ledger.table.filter(pa.array(as_written)).column("digest").to_pylist())
        return kept | {entry.digest for entry in self._entries} | {each.digest for each in self._operations}

    @cached_property
    def _files_of(self) -> Counter[str]:
        """How many files of the dataset show an image, by image id; they may be links to one another."""
        names, ids = (self.ledger.table.column(each).to_pylist() for each in ("name", "image_id"))
        return Counter(image_id for name, image_id in zip(names, ids, strict=True) if shows_image(name))

    @cached_property
    def _links_in_versions(self) -> Counter[int]:
        """By inode; a version may be deleted any time, so what it links to is no further copy of an image."""
        output = as_local(self.destination.path(""))
        return Counter[int]() if output is None else links_in_versions(output)

    def _may_be_last(self, entry: Entry) -> bool:
        """Whether this may be the last copy of an image that the user did not ask to delete."""
        if entry.digest in self._contents:
            return False
        if self._prune and not self.originals.may_hold(entry.image_id):
            return False
        file = as_local(self.destination.path(entry.name))
        if file is not None and (file.is_symlink() or self._has_other_links(file.stat(), entry.image_id)):
            return False
        source = source_at(self.destination.path(entry.name))
        return not self.originals.has(entry.image_id, entry.digest, source.digest)

    def _has_other_links(self, file: os.stat_result, image_id: str) -> bool:
        """Whether a file that shows the image has hard links outside the dataset and its versions."""
        more = file.st_nlink - self._files_of[image_id]
        return more > 0 and more > self._links_in_versions[file.st_ino]

    def __enter__(self) -> Dataset:
        self.destination.clean_up()
        self.destination.building.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.destination.clean_up()


def _rank(operation: Operation) -> int:
    """The position of a new file in the order of publishing: COCO and ``data.yaml`` come last."""
    parts = {operation.name.partition("/")[0], operation.name.rpartition("/")[2]}
    ranks = (rank for rank, names in enumerate(LAST, start=1) if not parts.isdisjoint(names))
    return next(ranks, int(operation.name == VERDICTS))


def open_dataset(
    output: AnyPath,
    originals: Originals,
    link: str,
    adopted: Callable[[], Iterable[Entry]],
    overwrite: bool = False,
    prune: bool = False,
    taken_in: Mapping[str, str] | None = None,
    layout: str | None = None,
) -> Dataset:
    """Start publishing the dataset in ``output``, which must be locked.

    Args:
        adopted: returns the entries of a dataset that an early version wrote without a ledger.
        taken_in: as ``Planner`` takes it.
        layout: as ``image_names`` takes it.

    Raises:
        RunError: the dataset has another layout.
    """
    destination = destination_of(output)
    ledger, begun = read_ledger(destination.path(LEDGER)), read_journal(destination.path(JOURNAL))
    if ledger is None:
        is_old = info(destination.path(VERDICTS)) is not None and not begun
        ledger = Ledger(to_table(adopted() if is_old else ()))
    # In a store, some changes of an export that was killed may be in effect. A local folder was recovered before.
    if there := [each for each in begun if each.adds and destination.digest(each.name) == each.digest]:
        # A file that was copied may also still exist at its source.
        replaced = [replace(each, source="") for each in there]
        table = after(ledger.table, replaced, (each.entry(destination.stamp(each.name)) for each in there))
        ledger = Ledger(table, ledger.root)
    return Dataset(Planner(destination, ledger, overwrite, taken_in), originals, link, prune, layout)
