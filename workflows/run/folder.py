"""The run folder: everything that labeling stores besides the dataset.

    OUT/run/run.json              what the labels were made with
    OUT/run/images.parquet        which images there are, see manifest.py
    OUT/run/records/…             their records, see shard_files.py
    OUT/run/classes.json          the dataset's classes, by id, see classes.py
    OUT/run/decisions.jsonl       what people decided
    OUT/run/splits.parquet        which split each image is in
    OUT/run/attempts/…            unfinished work, see attempts.py
    OUT/run/reported.json         which failures were reported, see failures.py
    OUT/run/summary.json          what the last run did, see summary.py
    OUT/run/export-cache/…        what exports need not judge again; may be deleted
    OUT/run/unusable/…            record files that could not be used

``OUT`` is a local folder or a URI. A shard is done when its record file exists and holds the records of its images.
Files are written atomically, so a killed run can be resumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labeler.errors import RunError
from labeler.files.image_table import SCHEMA as IMAGES
from labeler.files.image_table import ImageTable
from labeler.files.local import PARTIAL, without_partial
from labeler.files.storage import as_local, info, is_link, remove, scan, storage_of
from labeler.records import ImageRecord
from workflows.run import manifest
from workflows.run.classes import SavedClasses, read_classes, write_classes
from workflows.run.current_records import CurrentRecords, failed_or_noted
from workflows.run.locks import hold
from workflows.run.manifest import Manifest
from workflows.run.planning import Changes, Planning, with_stamps
from workflows.run.same_settings import refuse_other
from workflows.run.shard import Shard
from workflows.run.shard_files import RecordFiles, ShardFiles, pass_of
from workflows.run.waiting import WaitingShards
from workflows.settings.passes import passes_for
from workflows.settings.run_json import RunJson
from workflows.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

DATASET_ENTRIES = ("images", "labels", "annotations", "webdataset", "cutouts", "data.yaml")
_FOLDERS = ("records", "attempts", "building", "sent", "unusable", "set-aside", "embeddings", "export-cache")
_WRITTEN_BY_WORKERS = ("", "records", "attempts", "export-cache")
_ATTEMPT = re.compile(r"([0-9]{6,}|worker-[0-9a-f]+)\.json")  # the names that attempts.py gives


class RunFolder:
    """The output folder ``OUT`` with its ``run`` folder."""

    def __init__(self, output: AnyPath) -> None:
        self.output = output
        self.path = output / "run"
        self.records = self.path / "records"
        self.settings = RunJson(output)
        self._manifest = Manifest(self.path / "images.parquet")
        self._classes = self.path / "classes.json"
        self._files = ShardFiles(self.records, self.path / "unusable")

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Lock the folder; yields a function that checks that it is still locked, to be called now and then.

        Raises:
            RunError: another run holds the lock, or (raised by the check) has taken it over.
            OSError: the folder cannot be written.
        """
        if info(self.settings.path) is None:
            foreign = [name for name in DATASET_ENTRIES if info(self.output / name) is not None]
            if foreign:
                raise RunError(
                    f"{self.output} holds {', '.join(foreign)} that no run made; choose an empty or new folder with -o"
                )
        storage_of(self.records).make_folder(self.records)
        self.refuse_links()
        with hold(self.path) as still_held:
            local = as_local(self.path)
            with without_partial([local / name for name in _WRITTEN_BY_WORKERS] if local else []):
                yield still_held

    def refuse_links(self) -> None:
        """Refuse symbolic links among the folders of the run, since writing there would write somewhere else.

        Raises:
            RunError: one of the folders is a link or a file.
        """
        if not storage_of(self.path).has_links:
            return
        for path in (self.path, *(self.path / name for name in _FOLDERS)):
            what = info(path)
            if is_link(path) or (what and not what.is_folder):
                raise RunError(f"{path} is {'a link' if is_link(path) else 'not a folder'}; put a folder in its place")

    def begin(self, settings: RunSettings, restart: bool, add_pass: str | None = None) -> RunSettings:
        """Save ``settings`` for this run. If there are records, their labeling passes stay, and one may be added.

        Args:
            add_pass: the labeler may be another one than those of the records, see ``passes_for``.
            restart: delete the records. Files that only have the name of a record file are moved to ``run/unusable``.

        Raises:
            RunError: the settings or the input differ from those of the records, or a file is damaged or was written
                by a newer labeler.

        Returns:
            ``settings`` with all passes.
        """
        has_records = bool(self._files.by_name())
        settings = replace(settings, passes=(settings.asked,))
        if not restart and info(self.settings.path) is not None:
            old = self.settings.read(replacing=("ontology", "export"))
            if has_records:
                refuse_other(self.output, old, settings, adding=add_pass is not None)
                labeled = self._labeled()  # before anything is written: files of a newer version are refused
                made = old.passes[: 1 + pass_of(max(labeled, default=0))]  # nothing was labeled in passes behind
                settings = replace(settings, passes=passes_for(made, settings.asked, add_pass))
        if restart or not has_records:
            self._files.clear()
            for path in (self._manifest.path, self._classes):
                remove(path)
        self.settings.write(settings)
        return settings

    def clear_attempts(self) -> None:
        """Delete the notes on unfinished work, after a stop that was not a crash or before a retry."""
        with suppress(FileNotFoundError):
            for entry in list(scan(self.path / "attempts")):
                if _ATTEMPT.fullmatch(entry.name) or entry.name.endswith(PARTIAL):  # of a killed worker
                    remove(self.path / "attempts" / entry.name)

    def classes(self) -> SavedClasses | None:
        """The classes of the dataset, by id, as the last export saved them; None before the first export.

        Raises:
            RunError: they were written by a newer labeler.
        """
        return read_classes(self._classes)

    @property
    def has_dataset(self) -> bool:
        """Whether a dataset was ever exported."""
        return self.classes() is not None

    def write_classes(self, saved: SavedClasses) -> None:
        write_classes(self._classes, saved)

    # ------------------------------------------------------------ images and shards

    def plan(
        self,
        images: ImageTable,
        shard_size: int,
        changes: Changes | None = None,
        prune: bool = False,
        passes: Collection[int] = (0,),
        retried: Collection[str] = (),
    ) -> int:
        """Assign images that are new or have changed to new shards, after the existing ones.

        Args:
            images: all images of the input, from ``labeler.files.sorting``.
            changes: what became of them since they were labeled; None for nothing.
            prune: forget images that are not in the input.
            passes: the labeling passes that can be run now. Others get no images.
            retried: images that failed, which ``passes`` are to label again.

        Returns:
            The number of forgotten images.
        """
        self.refuse_records_alone()
        changes = Changes.none(images) if changes is None else changes
        failed = self.current().failed_in() if max(passes, default=0) else ()
        given_up = {image_id for image_id, _ in failed}.difference(retried)  # no other pass asks them
        try:
            planning = Planning(images, shard_size, changes, prune, passes, retried, given_up)
            if any(differs for _, differs in planning.batches(self._manifest)):
                self._manifest.replace(batch for batch, _ in planning.batches(self._manifest))
        except ValueError as error:
            raise RunError(f"{self.output}: {error}") from None
        return planning.forgotten

    def current_images(self) -> Iterator[pa.RecordBatch]:
        """``image_id`` and ``stamp`` of every image, labeled or not."""
        if pass_of(self._manifest.shards().index[-1:]).any():
            batches = manifest.first_of_each(self._manifest.table()).to_batches()
        else:
            batches = (batch.filter(pc.invert(batch.column(3))) for batch in self._manifest.batches())
        return (pa.record_batch([batch.column(0), batch.column(2)], schema=IMAGES) for batch in batches)

    def stamps(self) -> pa.Table:
        """``image_id`` and ``stamp`` of every image, labeled or not, in memory."""
        return pa.Table.from_batches(self.current_images(), IMAGES)

    def restamp(self, images: ImageTable) -> None:
        """Replace the stamps of ``images``."""
        self.refuse_records_alone()
        self._manifest.replace(with_stamps(batch, images) for batch in self._manifest.batches())

    def shards(self) -> list[Shard]:
        """Every shard of the manifest, in order, in memory."""
        self.refuse_records_alone()
        return list(WaitingShards(self._manifest, self._files, self._manifest.shards().index))

    def waiting(self, passes: Collection[int] | None = None) -> WaitingShards:
        """The shards to be labeled: their record file is missing, damaged, or of other images.

        Args:
            passes: of these labeling passes alone; None for all whose prompts the classes still have.
        """
        self.refuse_records_alone()
        done, passes = self._labeled(), self.current().passes if passes is None else passes
        index = np.setdiff1d(self._manifest.shards().index, done.shards, assume_unique=True)
        return WaitingShards(self._manifest, self._files, index[np.isin(pass_of(index), list(passes))])

    def count_in(self, shards: Collection[int]) -> int:
        """The number of images in ``shards``."""
        self.refuse_records_alone()
        planned = self._manifest.shards()
        chosen = np.isin(planned.index, np.fromiter(shards, np.int32, len(shards)))
        if len(np.unique(pass_of(planned.index[chosen]))) <= 1:
            return int(planned.current[chosen].sum())
        current = (rows.filter(pc.invert(rows.column(3))) for rows in self._manifest.of_shards(planned.index[chosen]))
        return len(set[str]().union(*(rows.column(0).to_pylist() for rows in current)))

    def record_paths(self) -> Collection[AnyPath]:
        """The usable record files, in shard order."""
        return self._labeled().values()

    def labeled_shards(self) -> set[int]:
        """The indices of the labeled shards."""
        return set(self._labeled())

    def set_unusable_aside(self) -> None:
        """Move unusable record files to ``run/unusable``, so that their shards can be labeled again."""
        self._labeled()
        self._files.set_unfit_aside()

    def _labeled(self) -> RecordFiles:
        """``record_paths`` by shard; a warning names all other files among the records, once.

        Raises:
            RunError: a record file was written by a newer labeler, or the manifest cannot be read.
        """
        if not self._manifest.exists():  # nothing to check them against
            return self._files.by_name()
        by_shard = self._manifest.by_shard
        return self._files.labeled(
            self._manifest.shards().index, lambda wanted: ((index, rows.column(0)) for index, rows in by_shard(wanted))
        )

    def refuse_records_alone(self) -> None:
        """Refuse records without a manifest.

        Raises:
            RunError: there are some, and their images are unknown.
        """
        if not self._manifest.exists() and self._files.by_name():
            raise manifest.unusable(self._manifest.path, "is missing")

    # ------------------------------------------------------------ what is in the records

    def current(self) -> CurrentRecords:
        """The records as they are now, one an image."""
        return CurrentRecords(self._manifest, self._labeled(), lambda: self.settings.read(replacing=("export",)))

    def labeled(self) -> Iterator[ImageRecord]:
        """The records of ``CurrentRecords.placed``."""
        return (record for _, record in self.current().placed())

    def tags(self) -> Iterator[list[str]]:
        """The tags of every labeled image, in the order of ``labeled``, without reading the rest of the records."""
        return ([each["tag"] for each in row["tags"]] for row in self.current().rows(["tags"]))

    def sizes(self) -> dict[str, tuple[int, int]]:
        """(width, height) of every labeled image, by its id; (0, 0) for an image that could not be read."""
        sizes: dict[str, tuple[int, int]] = {}
        for row in self.current().rows(["width", "height", "status"]):
            sizes.setdefault(row["image_id"], (row["width"], row["height"]))
        return sizes

    def failed(self) -> list[str]:
        """Ids of the images whose labeling or tagging failed."""
        rows = self.current().rows(["status", "error"], failed_or_noted)
        return list(dict.fromkeys(row["image_id"] for row in rows))

    def failed_in(self, shards: Collection[int]) -> list[tuple[str, str]]:
        """(image id, error) of the failed images in those of ``shards`` that are labeled."""
        return self.current().failed_in(shards) if shards else []
