"""The current records of a run, one an image: the union of what its labeling passes found, without replaced records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labeler.record_files import read_record
from labeler.records import ImageRecord
from workflows.run.manifest import Indices, Manifest
from workflows.run.record_rows import Superseded, read_digests, read_rows, read_tables
from workflows.run.shard_files import RecordFiles, pass_of
from workflows.run.shard_records import ClassIds, Place, ShardRecords
from workflows.run.united import ClassOf, Links, unite

if TYPE_CHECKING:
    from workflows.settings.run_settings import RunSettings


class CurrentRecords:
    """The records as they are when this is made. Passes whose prompts no class has any more are left out.

    Args:
        manifest: of the run; if there is none, there are no replaced records.
        labeled: the usable record files, by shard.
        settings: reads what the run folder remembers.

    Attributes:
        files: the record files that are read, by shard.
    """

    def __init__(self, manifest: Manifest, labeled: RecordFiles, settings: Callable[[], RunSettings]) -> None:
        self._manifest, self._settings = manifest, settings
        self._planned = manifest.shards()
        self.passes = self._active_passes()
        self.files = labeled.chosen(np.isin(pass_of(labeled.shards), self.passes))

    def _active_passes(self) -> list[int]:
        if not pass_of(self._planned.index[-1:]).any():
            return [0]
        settings = self._settings()
        return [number for number, made in enumerate(settings.passes) if made.is_active(settings.ontology)]

    @cached_property
    def _superseded(self) -> Superseded:
        return self._manifest.superseded()

    @cached_property
    def _links(self) -> Links | None:
        """How the records of several passes belong together; None if there is one pass."""
        return Links.of(self._manifest.table(), self.files.shards) if pass_of(self.files.shards).any() else None

    @cached_property
    def _class_ids(self) -> ClassIds:
        settings = self._settings()
        return ClassIds(settings.passes, settings.ontology)

    @cached_property
    def _class_of(self) -> dict[int, ClassOf]:
        return self._class_ids.by_pass()

    def placed(self) -> Iterator[tuple[Place, ImageRecord]]:
        """One record of every labeled image, in shard order, behind what ``at`` finds it by.

        Class ids are those of now. Where tags make the classes, they are as in the record files.

        Raises:
            RunError: a record has a class id that its pass did not have.
        """
        return (each for shard in self.shards() for each in shard.placed())

    def shards(self) -> Iterator[ShardRecords]:
        """The records of ``placed``, shard by shard. A shard has none if all of its images have a record in an earlier
        pass, which comes with this one."""
        links, planned = self._links, self._manifest.by_shard(self.files.shards)
        starts = {} if links is None else links.first_shards()
        following = next(planned, None)
        for shard, path in self.files.items():
            if following is None or following[0] != shard:  # no manifest tells of it
                yield ShardRecords(shard, {shard: path}, self._class_ids)
                continue
            batch, following = following[1], next(planned, None)
            rows = np.flatnonzero(~batch.column(3).to_numpy(zero_copy_only=False))
            later: dict[int, list[tuple[int, int]]] = {}
            if links is not None:
                start = starts.get(shard)
                if start is None:
                    continue
                is_first = links.is_first[start : start + len(rows)]
                nexts = links.later[start : start + len(rows)][is_first].tolist()
                rows = rows[is_first]
                later = {row: links.places(at) for row, at in zip(rows.tolist(), nexts, strict=True) if at >= 0}
            files = {number: self.files[number] for places in later.values() for number, _ in places}
            ids = batch.column(0).take(pa.array(rows)).to_pylist()
            yield ShardRecords(shard, {shard: path, **files}, self._class_ids, rows.tolist(), later, ids)

    def at(self, place: Place) -> ImageRecord:
        """One of the records of ``placed``."""
        parts = [(number, read_record(path, row)) for number, path, row in place]
        return unite(parts, self._class_of) if self._class_of else parts[0][1]

    def known(self) -> Iterator[pa.RecordBatch]:
        """``image_id`` and ``stamp`` of every labeled image, and ``shard`` and ``row`` of its first record."""
        done, last, count = 0, -1, 0  # current rows so far; the last shard so far, and the number of its rows
        for batch in self._manifest.of_shards(self.files.shards):
            shards = batch.column(1).to_numpy()
            rows = np.arange(len(shards)) - np.searchsorted(shards, shards) + np.where(shards == last, count, 0)
            last, count = shards[-1], rows[-1] + 1
            columns = [batch.column(0), batch.column(2), batch.column(1), pa.array(rows, pa.int32())]
            known = pa.record_batch(columns, ["image_id", "stamp", "shard", "row"])
            known = known.filter(pc.invert(batch.column(3)))
            if self._links is not None:
                is_first = self._links.is_first[done : done + len(known)]
                done += len(known)
                known = known.filter(pa.array(is_first))
            yield known

    def digests(self, known: pa.RecordBatch) -> list[str]:
        """The digests of images of ``known``; empty for an image that could not be read."""
        return read_digests(known, self.files)

    def contents(self) -> pa.Table:
        """``image_id``, ``digest`` and ``status`` of every labeled image, in the order of ``placed``."""
        columns = ["digest", "status"]
        none = pa.table({name: pa.array([], pa.string()) for name in ("image_id", *columns)})
        tables = read_tables(self.files, self._superseded, columns)
        every = pa.concat_tables([none, *tables], promote_options="permissive").combine_chunks()
        return every if self._links is None else self._links.united(every)

    def rows(
        self,
        columns: list[str],
        where: Callable[[pa.Table], pa.Array] | None = None,
        shards: Collection[int] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """``read_rows`` for every record, or only for those in ``shards``; an image has a row for each pass."""
        files = self.files if shards is None else self.files.of(shards)
        return read_rows(files, self._superseded, columns, where)

    def failed_in(self, shards: Collection[int] | None = None) -> list[tuple[str, str]]:
        """(image id, error) of the failed images, in all shards or only in those of ``shards`` that are labeled."""
        return [(row["image_id"], row["error"]) for row in self.rows(["status", "error"], has_failed, shards)]

    def lacking(self) -> dict[int, int]:
        """How many labeled images a pass has not labeled, by pass; images that failed do not count."""
        if len(self.passes) == 1:
            return {}
        of_pass = self._ids_by_pass(self.files.shards)
        labeled = set[str]().union(*of_pass.values()).difference(image_id for image_id, _ in self.failed_in())
        counts = {number: len(labeled - of_pass.get(number, set())) for number in self.passes}
        return {number: count for number, count in counts.items() if count}

    def unlabeled(self) -> int:
        """How many images no pass has labeled."""
        planned = self._planned
        if len(self.passes) == 1:
            chosen = np.isin(pass_of(planned.index), self.passes) & ~np.isin(planned.index, self.files.shards)
            return int(planned.current[chosen].sum())
        labeled, every = self._ids_by_pass(self.files.shards), self._ids_by_pass(planned.index)
        return len(set[str]().union(*every.values()) - set[str]().union(*labeled.values()))

    def _ids_by_pass(self, shards: Indices) -> dict[int, set[str]]:
        """The current images of ``shards``, by pass; of active passes alone."""
        ids: dict[int, set[str]] = {}
        for shard, rows in self._manifest.by_shard(shards[np.isin(pass_of(shards), self.passes)]):
            current = rows.filter(pc.invert(rows.column(3)))
            ids.setdefault(pass_of(shard), set()).update(current.column(0).to_pylist())
        return ids


def has_failed(rows: pa.Table) -> pa.Array:
    return pc.equal(rows.column("status"), "error")


def failed_or_noted(rows: pa.Table) -> pa.Array:
    return pc.or_(has_failed(rows), pc.not_equal(rows.column("error"), ""))
