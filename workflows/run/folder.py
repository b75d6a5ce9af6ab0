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
    OUT/run/unusable/…            record files that could not be used

``OUT`` is a local folder or a URI. A shard is done when its record file exists and holds the records of its images.
Files are written atomically, so a killed run can be resumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from labeler.errors import RunError
from labeler.files.local import PARTIAL, remove_partial
from labeler.files.storage import as_local, info, is_link, remove, scan, storage_of
from labeler.record_files import read_records
from labeler.records import ImageRecord
from workflows.run import manifest
from workflows.run.classes import SavedClasses, read_classes, write_classes
from workflows.run.locks import hold
from workflows.run.record_rows import read_rows, read_tables, with_digests
from workflows.run.same_settings import refuse_other
from workflows.run.shard_files import Shard, ShardFiles
from workflows.settings.run_json import RunJson
from workflows.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

DATASET_ENTRIES = ("images", "labels", "annotations", "cutouts", "data.yaml")
_FOLDERS = ("records", "attempts", "building", "sent", "unusable", "set-aside", "embeddings")
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
                for name in ("", "records", "attempts"):
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

    def begin(self, settings: RunSettings, restart: bool) -> None:
        """Save ``settings`` for this run. If there are records, ``labeling`` in them must not have changed.

        Args:
            restart: delete the records. Files that only have the name of a record file are moved to ``run/unusable``.

        Raises:
            RunError: the settings or the input differ from those of the records, or a file is damaged or was written
                by a newer labeler.
        """
        has_records = bool(self._files.by_name())
        if not restart and info(self.settings.path) is not None:
            old = self.settings.read(replacing=("ontology", "export"))
            if has_records:
                refuse_other(self.output, old, settings)
                self._labeled()  # before anything is written: record files of a newer version are refused
        if restart or not has_records:
            self._files.clear()
            for path in (self._manifest, self._classes):
                remove(path)
        self.settings.write(settings)

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
    ) -> int:
        """Assign images that are new or ``changed`` to new shards, after the existing ones.

        Args:
            image_ids: string array, all images of the input.
            stamps: string array, the stamp of each, from ``labeler.files.listing.stamps``.
            prune: forget images that are not in the input.

        Returns:
            The number of forgotten images.
        """
        known = self._read_manifest()
        planned, forgotten = manifest.with_images(known, image_ids, stamps, shard_size, changed, prune)
        if not planned.equals(known):
            manifest.write_manifest(self._manifest, planned)
        return forgotten

    def stamps(self) -> pa.Table:
        """``image_id`` and ``stamp`` of every image, labeled or not."""
        images = self._images()
        return images.filter(pc.invert(images.column("superseded"))).select(["image_id", "stamp"])

    def restamp(self, image_ids: pa.Array, stamps: pa.Array) -> None:
        """Replace the stamps of the images ``image_ids``."""
        manifest.write_manifest(self._manifest, manifest.with_stamps(self._read_manifest(), image_ids, stamps))

    def shards(self) -> list[Shard]:
        """Every shard of the manifest, in order."""
        return [self._shard(index, ids) for index, ids in manifest.ids_by_shard(self._read_manifest()).items()]

    def waiting(self) -> list[Shard]:
        """The shards to be labeled: their record file is missing, damaged, or of other images."""
        done = self._labeled()
        return [shard for shard in self.shards() if shard.index not in done]

    def _shard(self, index: int, ids: pa.Array) -> Shard:
        return Shard(index, tuple(ids.to_pylist()), self._files.path(index))

    def count_in(self, shards: Collection[int]) -> int:
        """The number of images in ``shards``."""
        if not shards:
            return 0
        images = self._read_manifest()
        rows = pc.is_in(images.column("shard"), pa.array(sorted(shards), pa.int32()))
        return int(pc.sum(pc.and_not(rows, images.column("superseded"))).as_py() or 0)

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

    def labeled(self) -> Iterator[ImageRecord]:
        """The current record of every labeled image, in shard order."""
        return (record for _, _, record in self.placed())

    def placed(self) -> Iterator[tuple[AnyPath, int, ImageRecord]]:
        """Like ``labeled``, each with its file and its row index."""
        superseded = manifest.superseded_images(self._images())
        for index, path in sorted(self._labeled().items()):
            for row, record in enumerate(read_records([path])):
                if (index, record.image_id) not in superseded:
                    yield path, row, record

    def known(self) -> pa.Table:
        """``image_id``, ``stamp`` and ``digest`` (from the record) of every labeled image."""
        return with_digests(self._read_manifest(), self._labeled())

    def contents(self) -> pa.Table:
        """``image_id``, ``digest`` and ``status`` of every labeled image, in the order of ``labeled``."""
        columns = ["digest", "status"]
        none = pa.table({name: pa.array([], pa.string()) for name in ("image_id", *columns)})
        tables = read_tables(self._labeled(), manifest.superseded_images(self._images()), columns)
        return pa.concat_tables([none, *tables], promote_options="permissive").combine_chunks()

    def tags(self) -> Iterator[list[str]]:
        """The tags of every labeled image, in the order of ``labeled``, without reading the rest of the records."""
        return ([each["tag"] for each in row["tags"]] for row in self._rows(["tags"]))

    def sizes(self) -> dict[str, tuple[int, int]]:
        """(width, height) of every labeled image, by its id; (0, 0) for an image that could not be read."""
        rows = self._rows(["width", "height", "status"])
        return {row["image_id"]: (row["width"], row["height"]) for row in rows}

    def failed(self) -> list[str]:
        """Ids of the images whose labeling or tagging failed."""
        return [row["image_id"] for row in self._rows(["status", "error"], _has_failed)]

    def failed_in(self, shards: Collection[int]) -> list[tuple[str, str]]:
        """(image id, error) of the failed images in those of ``shards`` that are labeled."""
        if not shards:
            return []
        rows = self._rows(["status", "error"], lambda rows: pc.equal(rows.column("status"), "error"), shards)
        return [(row["image_id"], row["error"]) for row in rows]

    def _rows(
        self,
        columns: list[str],
        where: Callable[[pa.Table], pa.Array] | None = None,
        shards: Collection[int] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """``read_rows`` for every labeled image, or only for those in ``shards``."""
        superseded, labeled = manifest.superseded_images(self._images()), self._labeled()
        files = {index: path for index, path in labeled.items() if shards is None or index in shards}
        return read_rows(files, superseded, columns, where)


def _has_failed(rows: pa.Table) -> pa.Array:
    return pc.or_(pc.equal(rows.column("status"), "error"), pc.not_equal(rows.column("error"), ""))
