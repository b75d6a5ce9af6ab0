"""The run folder: which images there are, which shard each belongs to, and which shards are done.

    OUT/run/run.json              what the labels were made with
    OUT/run/images.parquet        the manifest: image_id, shard, stamp (size and times of the file), superseded
    OUT/run/records/000000.parquet …
    OUT/run/classes.json          the dataset's classes, by id
    OUT/run/decisions.jsonl       what people decided, see decisions.py
    OUT/run/attempts/…            what is being worked on, see attempts.py
    OUT/run/reported.json         which failures were reported, see failures.py
    OUT/run/summary.json          what the last run did, see summary.py
    OUT/run/unusable/000003.parquet …   record files that could not be used, moved aside

``OUT`` is a folder of this machine or a URI. A shard is done when its record file is there, whole and of its images;
files appear whole or not at all. So a killed run can be resumed, and new images get shards of their own behind
the old ones. So do changed ones: their old rows and records stay where they are, and count as superseded.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labeler.errors import FormatError, RunError
from labeler.files.image_ids import check_image_ids
from labeler.files.storage import (
    free_path,
    in_order,
    info,
    locate,
    move,
    read_bytes,
    remove,
    remove_partial,
    scan,
    store_of,
    write_bytes,
)
from labeler.migrations import VERSIONS, check_version, footer_version, migrate, read_json
from labeler.record_checks import check_images
from labeler.records import ImageRecord, fault_of_records, read_columns, read_records
from ontologies import ClassSpec, Ontology, OntologyError
from workflows.run.classes import SavedClasses
from workflows.run.locks import hold
from workflows.settings.run_json import RunJson
from workflows.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)

_MANIFEST = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("superseded", pa.bool_(), nullable=False),
    ]
)
NAMES_SHOWN = 5
DATASET_ENTRIES = ("images", "labels", "annotations", "cutouts", "data.yaml")
_FOLDERS = ("records", "attempts", "building", "sent", "unusable", "set-aside", "embeddings")
_ATTEMPT = re.compile(r"([0-9]{6,}|worker-[0-9a-f]+)\.json")  # as of attempts.py
_RECORDS = re.compile(r"[0-9]{6,}\.parquet")  # the name of a shard's record file


@dataclass(frozen=True)
class Shard:
    """The unit of work: some images and the file their records go to."""

    index: int
    image_ids: tuple[str, ...]
    records_path: AnyPath

    @property
    def attempts_path(self) -> AnyPath:
        return self.records_path.parent.parent / "attempts" / f"{self.index:06d}.json"


class RunFolder:
    """``OUT`` of one labeling, with its ``run`` folder."""

    def __init__(self, output: AnyPath) -> None:
        self.output = output
        self.path = output / "run"
        self.records = self.path / "records"
        self.settings = RunJson(output)
        self._manifest = self.path / "images.parquet"
        self._classes = self.path / "classes.json"
        self._whole: set[int] = set()  # shards whose records were looked at and found whole
        self._unfit: list[tuple[AnyPath, str]] = []  # what was found in their place instead, and why it is not these
        self._named: set[str] = set()  # files that a warning was given for

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Hold the folder against other runs; yields a check that it is still held, to be called now and then.

        Raises:
            RunError: another run lives here, or (by the check) has taken the folder over.
            OSError: the folder cannot be written.
        """
        if info(self.settings.path) is None:
            foreign = [name for name in DATASET_ENTRIES if info(self.output / name) is not None]
            if foreign:
                raise RunError(
                    f"{self.output} holds {', '.join(foreign)} that no run made; choose an empty or new folder with -o"
                )
        if isinstance(self.records, Path):
            self.records.mkdir(parents=True, exist_ok=True)
        self.refuse_links()
        with hold(self.path) as still_held:
            if isinstance(self.path, Path):
                for name in ("", "records", "attempts"):
                    remove_partial(self.path / name)
            yield still_held

    def classes(self) -> SavedClasses | None:
        """The classes of the dataset, by id, as an export left them; None before the first.

        Raises:
            RunError: they were written by a newer labeler.
        """
        try:
            content = read_json("classes.json", self._classes)
            specs = tuple(ClassSpec(each["name"], tuple(each["prompts"])) for each in content["classes"])
            return SavedClasses(Ontology(specs), content["min_tag_count"], content["max_classes"])
        except FileNotFoundError:
            return None
        except (FormatError, KeyError, TypeError, AttributeError, OntologyError):
            logger.warning("%s is damaged; the dataset's classes may get other ids", self._classes)
            return None

    @property
    def has_dataset(self) -> bool:
        """Whether a dataset was ever written."""
        return self.classes() is not None

    def write_classes(self, saved: SavedClasses) -> None:
        content = {
            "min_tag_count": saved.min_tag_count,
            "max_classes": saved.max_classes,
            "classes": [{"name": spec.name, "prompts": spec.prompts} for spec in saved.ontology.classes],
        }
        data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
        with suppress(FileNotFoundError):
            if read_bytes(self._classes) == data:
                return
        write_bytes(self._classes, data)

    def begin(self, settings: RunSettings, restart: bool) -> None:
        """Take ``settings`` for this run; with records here, those under ``labeling`` must be what made these.

        Args:
            restart: delete the records that are here. Files in their place that are no record files are moved aside.

        Raises:
            RunError: they are not, or the records are of another input folder, or something here is damaged or was
                written by a newer labeler.
        """
        records = [self.records / name for name in filter(_RECORDS.fullmatch, self._names())]
        if not restart and info(self.settings.path) is not None:
            old = self.settings.read(replacing=("ontology", "export"))
            if records:
                self._refuse_other(old, settings)
                self._labeled()  # before anything is written: record files of a newer version are refused
        if restart or not records:
            for path in records:
                self._delete_or_set_aside(path)
            for path in (self._manifest, self._classes):
                remove(path)
            self._whole.clear()
        self.settings.write(settings)

    def _delete_or_set_aside(self, path: AnyPath) -> None:
        try:
            fault = fault_of_records(path)
        except RunError as error:  # newer
            fault = str(error).removeprefix(f"{path} ")
        if fault:
            self._set_aside(path, fault)
        else:
            remove(path)

    def _set_aside(self, path: AnyPath, fault: str) -> None:
        """Move a file that cannot be used to ``run/unusable``, under a name that is free there."""
        target = free_path(self.path / "unusable" / path.name)
        move(path, target)
        logger.warning("%s: cannot be used (%s); moved to %s", path, fault, target)

    def _refuse_other(self, old: RunSettings, new: RunSettings) -> None:
        if old.input != new.input and _is_there(old.input, new.input):  # if it is gone, it was moved
            raise RunError(f"{self.output} holds labels of {old.input}, not of {new.input}; take a new -o")
        if changed := list(_differing(old.labeling, new.labeling)):
            tags_only = new.tags_only
            raise RunError(
                f"{self.output} was {'tagged' if tags_only else 'labeled'} with another {', '.join(changed)}; take a "
                "new -o, or do all again with --restart"
                + ("" if tags_only else ", or change thresholds and formats alone with `labeler export`")
            )

    def plan(
        self,
        image_ids: pa.Array,
        stamps: pa.Array,
        shard_size: int,
        changed: Collection[str] = (),
        prune: bool = False,
    ) -> int:
        """Give images that are new or ``changed`` shards behind the old ones.

        Args:
            image_ids: strings, all that are in the input.
            stamps: of each, as ``labeler.files.listing.stamps`` gives them.
            prune: forget images that are not in the input.

        Returns:
            How many were forgotten.
        """
        known = self._read_manifest()
        old_ids, superseded = known.column("image_id"), known.column("superseded")
        position = pc.index_in(old_ids, image_ids)
        gone = pc.and_(pc.invert(superseded), pc.is_null(position)) if prune else pa.nulls(0)
        forgotten = pc.sum(gone).as_py() or 0 if prune else 0
        superseded = pc.or_(superseded, pc.is_in(old_ids, pa.array(list(changed), pa.string())))
        if prune:
            superseded = pc.or_(superseded, gone)
        current = old_ids.filter(pc.invert(superseded))
        new = pc.invert(pc.is_in(image_ids, current.combine_chunks()))
        first = 0 if not len(known) else pc.max(known.column("shard")).as_py() + 1
        count = pc.sum(new).as_py() or 0
        shards = pa.array(first + np.arange(count) // shard_size, pa.int32())
        added = [image_ids.filter(new), shards, stamps.filter(new), pa.array(np.zeros(count, bool))]
        kept = [
            old_ids,
            known.column("shard"),
            pc.coalesce(pc.take(stamps, position), known.column("stamp")),
            superseded,
        ]
        planned = pa.concat_tables([pa.table(kept, schema=_MANIFEST), pa.table(added, schema=_MANIFEST)])
        if not planned.equals(known):
            self._write_manifest(planned)
        return int(forgotten)

    def stamps(self) -> pa.Table:
        """``image_id`` and ``stamp`` of every image as it stands, labeled or not."""
        manifest = self._read_manifest() if info(self._manifest) else _MANIFEST.empty_table()
        return manifest.filter(pc.invert(manifest.column("superseded"))).select(["image_id", "stamp"])

    def restamp(self, image_ids: pa.Array, stamps: pa.Array) -> None:
        """Save other ``stamps`` of the images ``image_ids``."""
        manifest = self._read_manifest()
        taken = pc.take(stamps, pc.index_in(manifest.column("image_id"), image_ids))
        taken = pc.if_else(manifest.column("superseded"), None, taken)
        column = manifest.schema.get_field_index("stamp")
        renewed = pc.coalesce(taken, manifest.column("stamp"))
        self._write_manifest(manifest.set_column(column, manifest.schema.field(column), renewed))

    def _write_manifest(self, manifest: pa.Table) -> None:
        buffer = io.BytesIO()
        pq.write_table(manifest, buffer)
        write_bytes(self._manifest, buffer.getvalue())

    def known(self) -> pa.Table:
        """The labeled images as they stand: ``image_id``, ``stamp`` and, of the record, ``digest``."""
        manifest, labeled = self._read_manifest(), self._labeled()

        def read(path: AnyPath) -> pa.Table:
            return read_columns(path, ["digest"])

        done = pa.array(sorted(labeled), pa.int32())
        rows = manifest.filter(pc.is_in(manifest.column("shard"), done)).select(["image_id", "stamp", "superseded"])
        # Records lie in the order of the manifest.
        digests = pa.table({"digest": pa.array([], pa.string())})
        read_all = in_order(read, [labeled[index] for index in done.to_pylist()])
        digests = pa.concat_tables([digests, *read_all], promote_options="permissive")
        rows = rows.append_column("digest", digests.column("digest"))
        return rows.filter(pc.invert(rows.column("superseded"))).drop_columns("superseded")

    def labeled(self) -> Iterator[ImageRecord]:
        """The one record of every image that is labeled, in shard order."""
        return (record for _, _, record in self.placed())

    def placed(self) -> Iterator[tuple[AnyPath, int, ImageRecord]]:
        """As ``labeled``, each behind its file and its row there."""
        superseded = self._superseded()
        for index, path in sorted(self._labeled().items()):
            for row, record in enumerate(read_records([path])):
                if (index, record.image_id) not in superseded:
                    yield path, row, record

    def tags(self) -> Iterator[list[str]]:
        """The tags of every image that is labeled, as ``labeled`` gives them; the rest of a record is not read."""
        superseded = self._superseded()
        for index, path in sorted(self._labeled().items()):
            columns = read_columns(path, ["image_id", "tags"])
            for image_id, tags in zip(*(column.to_pylist() for column in columns.columns), strict=True):
                if (index, image_id) not in superseded:
                    yield [found["tag"] for found in tags]

    def sizes(self) -> dict[str, tuple[int, int]]:
        """(width, height) of every image that is labeled, by its id, (0, 0) where it could not be read."""
        superseded = self._superseded()
        found: dict[str, tuple[int, int]] = {}
        for index, path in sorted(self._labeled().items()):
            columns = read_columns(path, ["image_id", "width", "height", "status"])
            try:
                check_images(columns)
            except ValueError as error:
                raise FormatError(f"{path}: not what a record file may hold: {error}") from error
            columns = columns.drop_columns("status")
            for image_id, width, height in zip(*(column.to_pylist() for column in columns.columns), strict=True):
                if (index, image_id) not in superseded:
                    found[image_id] = width, height
        return found

    def _superseded(self) -> set[tuple[int, str]]:
        manifest = self._read_manifest() if info(self._manifest) else _MANIFEST.empty_table()
        old = manifest.filter(manifest.column("superseded"))
        return set(zip(old.column("shard").to_pylist(), old.column("image_id").to_pylist(), strict=True))

    def _read_manifest(self) -> pa.Table:
        try:
            return _manifest_table(read_bytes(self._manifest), self._manifest)
        except FileNotFoundError:
            if not any(map(_RECORDS.fullmatch, self._names())):
                return _MANIFEST.empty_table()
            cause = "is missing"
        except FormatError as error:
            cause = f"is damaged ({str(error).removeprefix(f'{self._manifest}: ')})"
        except ValueError as error:
            raise RunError(
                f"{self._manifest}: {error}; do not use this run folder unless you know who made it"
            ) from None
        raise RunError(
            f"{self._manifest} {cause}, so records cannot be told apart; put back a copy of it, or label all again "
            "with --restart"
        )

    def _image_ids(self) -> dict[int, pa.Array]:
        """The image ids of every shard, in order."""
        manifest = self._read_manifest()
        indices, starts = np.unique(manifest.column("shard").to_numpy(), return_index=True)
        ids = manifest.column("image_id").combine_chunks()
        ends = np.append(starts, len(ids))[1:]
        return {index: ids[start:end] for index, start, end in zip(indices.tolist(), starts, ends, strict=True)}

    def shards(self) -> list[Shard]:
        """Every shard of the manifest, in order."""
        return [self._shard(index, ids) for index, ids in self._image_ids().items()]

    def waiting(self) -> list[Shard]:
        """The shards still to be labeled: their records are not there, torn, or of other images."""
        done = self._labeled()
        return [self._shard(index, ids) for index, ids in self._image_ids().items() if index not in done]

    def _shard(self, index: int, ids: pa.Array) -> Shard:
        return Shard(index, tuple(ids.to_pylist()), self._records_of(index))

    def _records_of(self, index: int) -> AnyPath:
        return self.records / f"{index:06d}.parquet"

    def record_paths(self) -> list[AnyPath]:
        """The record files that are whole and of this run's shards, in shard order."""
        return [path for _, path in sorted(self._labeled().items())]

    def labeled_shards(self) -> set[int]:
        """The numbers of the shards that are labeled."""
        return set(self._labeled())

    def set_unusable_aside(self) -> None:
        """Move away what is in the place of a shard's records and is not these: a file there means done again."""
        self._labeled()
        for path, fault in self._unfit:
            self._set_aside(path, fault)
        self._unfit = []

    def _labeled(self) -> dict[int, AnyPath]:
        """``record_paths`` by shard. What else lies among the records is named in a warning, once.

        Raises:
            RunError: a record file was written by a newer labeler, or the manifest cannot be read.
        """
        names = self._names()
        if info(self._manifest) is None:  # nothing to tell them by
            return {int(name.partition(".")[0]): self.records / name for name in filter(_RECORDS.fullmatch, names)}
        ids = self._image_ids()
        files = {index: path for index in ids if (path := self._records_of(index)).name in names}
        if foreign := sorted(names - {path.name for path in files.values()} - self._named):
            self._named.update(foreign)
            shown = ", ".join(foreign[:NAMES_SHOWN]) + (", …" if len(foreign) > NAMES_SHOWN else "")
            logger.warning("%s: no records of this run's images, left out: %s", self.records, shown)
        unseen = [index for index in files if index not in self._whole]
        self._unfit = []
        faults = in_order(lambda index: fault_of_records(files[index], ids[index]), unseen)
        for index, fault in zip(unseen, faults, strict=True):
            if not fault:
                self._whole.add(index)
                continue
            self._unfit.append((files[index], fault))
            if files[index].name not in self._named:
                self._named.add(files[index].name)
                logger.warning("%s: %s; its %d images count as not labeled", files[index], fault, len(ids[index]))
        return {index: path for index, path in files.items() if index in self._whole}

    def count_in(self, shards: Collection[int]) -> int:
        """How many images as they stand belong to ``shards``."""
        if not shards:
            return 0
        manifest = self._read_manifest()
        rows = pc.is_in(manifest.column("shard"), pa.array(sorted(shards), pa.int32()))
        return int(pc.sum(pc.and_not(rows, manifest.column("superseded"))).as_py() or 0)

    def failed_in(self, shards: Collection[int]) -> list[tuple[str, str]]:
        """(image id, error) of the images that failed in ``shards``, as far as these are labeled."""
        if not shards:
            return []

        def read(path: AnyPath) -> pa.Table:
            found = read_columns(path, ["image_id", "status", "error"])
            return found.filter(pc.equal(found.column("status"), "error"))

        superseded, labeled = self._superseded(), self._labeled()
        done = sorted(labeled.keys() & shards)
        failed = zip(done, in_order(read, [labeled[index] for index in done]), strict=True)
        rows = ((index, row["image_id"], row["error"]) for index, found in failed for row in found.to_pylist())
        return [(image_id, error) for index, image_id, error in rows if (index, image_id) not in superseded]

    def refuse_links(self) -> None:
        """Refuse links in place of the folders of the run: what is written there would land somewhere else.

        Raises:
            RunError: there is a link, or a file in place of a folder.
        """
        if not isinstance(self.path, Path):
            return
        for path in (self.path, *(self.path / name for name in _FOLDERS)):
            if path.is_symlink() or (path.exists() and not path.is_dir()):
                what = "a link" if path.is_symlink() else "no folder"
                raise RunError(f"{path} is {what}; put a folder in its place")

    def clear_attempts(self) -> None:
        """Forget what was begun and not finished; for a stop that was no crash, and before trying anew."""
        with suppress(FileNotFoundError):
            for found in list(scan(self.path / "attempts")):
                if _ATTEMPT.fullmatch(found.name):
                    remove(self.path / "attempts" / found.name)

    def failed(self) -> list[str]:
        """Ids of the images that failed, or whose tagging failed."""

        def read(path: AnyPath) -> list[str]:
            found = read_columns(path, ["image_id", "status", "error"])
            failed = pc.or_(pc.equal(found.column("status"), "error"), pc.not_equal(found.column("error"), ""))
            return list(found.filter(failed).column("image_id").to_pylist())

        superseded, labeled = self._superseded(), sorted(self._labeled().items())
        read_all = zip(labeled, in_order(read, [path for _, path in labeled]), strict=True)
        return [each for (index, _), found in read_all for each in found if (index, each) not in superseded]

    def _names(self) -> set[str]:
        """Of what lies among the records; hidden files are what killed writes left."""
        try:
            return {found.name for found in scan(self.records) if not found.name.startswith(".")}
        except FileNotFoundError:
            return set()


def _is_there(old: str, new: str) -> bool:
    """Whether the input ``old`` is there; a store that only the run folder names is not asked, and counts as there."""
    before, now = locate(old), locate(new)
    if not isinstance(before, Path) and (isinstance(now, Path) or store_of(before) != store_of(now)):
        return True
    return info(before) is not None


def _manifest_table(data: bytes, where: AnyPath) -> pa.Table:
    """The manifest in ``data``, with the columns of this version and no others.

    Raises:
        RunError: it was written by a newer labeler.
        FormatError: it is no manifest.
    """
    try:
        table = pq.read_table(io.BytesIO(data))
        stated = footer_version(table.schema.metadata)
        version = check_version("images.parquet", 1 if stated is None else stated, where)
        if version < VERSIONS["images.parquet"]:
            rows = [migrate("images.parquet", row, where, version) for row in table.to_pylist()]
            table = pa.Table.from_pylist(rows)
        if missing := [name for name in _MANIFEST.names if name not in table.column_names]:
            raise FormatError(f"{where}: the column {missing[0]!r} is missing")
        table = table.select(_MANIFEST.names)
        if gaps := [name for name in _MANIFEST.names if table.column(name).null_count]:
            raise FormatError(f"{where}: the column {gaps[0]!r} has gaps")
        table = table.cast(_MANIFEST)
        check_image_ids(table.column("image_id"))
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{where}: {str(error).splitlines()[0]}") from error
    shards = table.column("shard").to_numpy()
    if len(shards) and (shards[0] < 0 or (np.diff(shards) < 0).any()):
        raise FormatError(f"{where}: its shards are out of order")
    return table


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """The names of the settings in ``new`` that ``old`` has otherwise, those inside of others too."""
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            yield from _differing(before, value)
        elif before != value:
            yield name
