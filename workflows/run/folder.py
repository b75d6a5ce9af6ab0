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

import pyarrow as pa
import pyarrow.compute as pc

from labeler.errors import RunError
from labeler.files.local import PARTIAL, remove_partial
from labeler.files.storage import as_local, info, is_link, remove, scan, storage_of
from labeler.records import ImageRecord
from workflows.run import manifest
from workflows.run.classes import SavedClasses, read_classes, write_classes
from workflows.run.current_records import CurrentRecords, failed_or_noted
from workflows.run.locks import hold
from workflows.run.same_settings import refuse_other
from workflows.run.shard_files import Shard, ShardFiles, pass_of
from workflows.settings.passes import passes_for
from workflows.settings.run_json import RunJson
from workflows.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

DATASET_ENTRIES = ("images", "labels", "annotations", "webdataset", "cutouts", "data.yaml")
_FOLDERS = ("records", "attempts", "building", "sent", "unusable", "set-aside", "embeddings", "export-cache")
_ATTEMPT = re.compile(r"([0-9]{6,}|worker-[0-9a-f]+)\.json")  # the names that attempts.py gives


class RunFolder:
    """The output folder ``OUT`` with its ``run`` folder."""

    def __init__(self, output: AnyPath) -> None:
        self.output = output
        self.path = output / "run"
        self.records = self.path / "records"
        self.settings = RunJson(output)
        self._manifest = self.path / "images.parquet"
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
            if local := as_local(self.path):
                for name in ("", "records", "attempts", "export-cache"):
                    remove_partial(local / name)
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
            for path in (self._manifest, self._classes):
                remove(path)
        self.settings.write(settings)
        return settings

    def clear_attempts(self) -> None:
        """Delete the notes on unfinished work, after a stop that was not a crash or before a retry."""
        with suppress(FileNotFoundError):
            for entry in list(scan(self.path / "attempts")):
                if _ATTEMPT.fullmatch(entry.name) or entry.name.endswith(PARTIAL):  # of a killed worker
                    remove(self.path / "attempts" / entry.name)

    # ------------------------------------------------------------ classes

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
        image_ids: pa.Array,
        stamps: pa.Array,
        shard_size: int,
        changed: Collection[str] = (),
        prune: bool = False,
        passes: Collection[int] = (0,),
        retried: Collection[str] = (),
    ) -> int:
        """Assign images that are new or ``changed`` to new shards, after the existing ones.

        Args:
            image_ids: string array, all images of the input.
            stamps: string array, the stamp of each, from ``labeler.files.listing.stamps``.
            changed: images that no pass has labeled any more.
            prune: forget images that are not in the input.
            passes: the labeling passes that can be run now. Others get no images.
            retried: images that failed, which ``passes`` are to label again.

        Returns:
            The number of forgotten images.
        """
        known = self._read_manifest()
        failed = self.current().failed_in() if max(passes, default=0) else ()
        given_up = {image_id for image_id, _ in failed}.difference(changed, retried)  # no other pass asks them
        try:
            planned, forgotten = manifest.with_all_images(
                known, image_ids, stamps, shard_size, changed, prune, passes, retried, given_up
            )
        except ValueError as error:
            raise RunError(f"{self.output}: {error}") from None
        if not planned.equals(known):
            manifest.write_manifest(self._manifest, planned)
        return forgotten

    def stamps(self) -> pa.Table:
        """``image_id`` and ``stamp`` of every image, labeled or not."""
        return manifest.first_of_each(self._images()).select(["image_id", "stamp"])

    def restamp(self, image_ids: pa.Array, stamps: pa.Array) -> None:
        """Replace the stamps of the images ``image_ids``."""
        manifest.write_manifest(self._manifest, manifest.with_stamps(self._read_manifest(), image_ids, stamps))

    def shards(self) -> list[Shard]:
        """Every shard of the manifest, in order."""
        return [self._shard(index, ids) for index, ids in manifest.ids_by_shard(self._read_manifest()).items()]

    def waiting(self, passes: Collection[int] | None = None) -> list[Shard]:
        """The shards to be labeled: their record file is missing, damaged, or of other images.

        Args:
            passes: of these labeling passes alone; None for all whose prompts the classes still have.
        """
        done, passes = self._labeled(), self.current().passes if passes is None else passes
        return [shard for shard in self.shards() if shard.index not in done and pass_of(shard.index) in passes]

    def _shard(self, index: int, ids: pa.Array) -> Shard:
        return Shard(index, tuple(ids.to_pylist()), self._files.path(index))

    def count_in(self, shards: Collection[int]) -> int:
        """The number of images in ``shards``."""
        if not shards:
            return 0
        images = self._read_manifest()
        rows = pc.is_in(images.column("shard"), pa.array(sorted(shards), pa.int32()))
        return len(images.filter(pc.and_not(rows, images.column("superseded"))).column("image_id").unique())

    def record_paths(self) -> list[AnyPath]:
        """The usable record files, in shard order."""
        return [path for _, path in sorted(self._labeled().items())]

    def labeled_shards(self) -> set[int]:
        """The indices of the labeled shards."""
        return set(self._labeled())

    def set_unusable_aside(self) -> None:
        """Move unusable record files to ``run/unusable``, so that their shards can be labeled again."""
        self._labeled()
        self._files.set_unfit_aside()

    def _labeled(self) -> dict[int, AnyPath]:
        """``record_paths`` by shard; a warning names all other files among the records, once.

        Raises:
            RunError: a record file was written by a newer labeler, or the manifest cannot be read.
        """
        if info(self._manifest) is None:  # nothing to check them against
            return self._files.by_name()
        return self._files.labeled(manifest.ids_by_shard(self._read_manifest()))

    def _images(self) -> pa.Table:
        """The manifest; empty if there is none."""
        images = manifest.read_manifest(self._manifest)
        return manifest.SCHEMA.empty_table() if images is None else images

    def _read_manifest(self) -> pa.Table:
        """The manifest; empty if there are neither a manifest nor records.

        Raises:
            RunError: there are records without a manifest, so their images are unknown.
        """
        images = manifest.read_manifest(self._manifest)
        if images is None and self._files.by_name():
            raise manifest.unusable(self._manifest, "is missing")
        return manifest.SCHEMA.empty_table() if images is None else images

    # ------------------------------------------------------------ what is in the records

    def current(self) -> CurrentRecords:
        """The records as they are now, one an image."""
        return CurrentRecords(self._images(), self._labeled(), lambda: self.settings.read(replacing=("export",)))

    def labeled(self) -> Iterator[ImageRecord]:
        """The records of ``CurrentRecords.placed``."""
        return (record for _, record in self.current().placed())

    def known(self) -> pa.Table:
        """``image_id``, ``stamp`` and ``digest`` (from the record) of every labeled image."""
        self._read_manifest()  # refuses records without a manifest
        return self.current().known()

    def contents(self) -> pa.Table:
        """``image_id``, ``digest`` and ``status`` of every labeled image, in the order of ``labeled``."""
        return self.current().contents()

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
