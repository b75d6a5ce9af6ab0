"""The current records of a run, one an image: the union of what its labeling passes found, without replaced records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labeler.record_files import read_record
from labeler.records import ImageRecord
from workflows.run.manifest import superseded_images
from workflows.run.record_rows import read_rows, read_tables, with_digests
from workflows.run.shard_files import SHARDS_PER_PASS, pass_of
from workflows.run.shard_records import ClassIds, Place, ShardRecords
from workflows.run.united import ClassOf, Links, unite

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.run_settings import RunSettings


class CurrentRecords:
    """The records as they are when this is made. Passes whose prompts no class has any more are left out.

    Args:
        manifest: of the run; empty if there is none, and then there are no replaced records.
        labeled: the usable record files, by shard.
        settings: reads what the run folder remembers.

    Attributes:
        files: the record files that are read, by shard.
    """

    def __init__(self, manifest: pa.Table, labeled: Mapping[int, AnyPath], settings: Callable[[], RunSettings]) -> None:
        self._manifest, self._settings = manifest, settings
        self.passes = self._active_passes()
        self.files = {shard: path for shard, path in labeled.items() if pass_of(shard) in self.passes}

    def _active_passes(self) -> Collection[int]:
        shards = self._manifest.column("shard")
        if not len(shards) or pc.max(shards).as_py() < SHARDS_PER_PASS:
            return (0,)
        settings = self._settings()
        return [number for number, made in enumerate(settings.passes) if made.is_active(settings.ontology)]

    @cached_property
    def _links(self) -> Links | None:
        """How the records of several passes belong together; None if there is one pass."""
        return Links.of(self._manifest, sorted(self.files)) if any(map(pass_of, self.files)) else None

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
        numbers, superseded = (self._manifest.column(name).to_numpy() for name in ("shard", "superseded"))
        image_ids, links = self._manifest.column("image_id").combine_chunks(), self._links
        starts = {} if links is None else links.first_shards()
        for shard, path in sorted(self.files.items()):
            first, last = np.searchsorted(numbers, [shard, shard + 1]).tolist()
            if first == last:
                yield ShardRecords(shard, {shard: path}, self._class_ids)
                continue
            rows = np.flatnonzero(~superseded[first:last])
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
            ids = image_ids.slice(first, last - first).take(pa.array(rows)).to_pylist()
            yield ShardRecords(shard, {shard: path, **files}, self._class_ids, rows.tolist(), later, ids)

    def at(self, place: Place) -> ImageRecord:
        """One of the records of ``placed``."""
        parts = [(number, read_record(path, row)) for number, path, row in place]
        return unite(parts, self._class_of) if self._class_of else parts[0][1]

    def known(self) -> pa.Table:
        """``image_id``, ``stamp`` and ``digest`` (from the record) of every labeled image."""
        known = with_digests(self._manifest, self.files)
        return known if self._links is None else known.filter(pa.array(self._links.is_first))

    def contents(self) -> pa.Table:
        """``image_id``, ``digest`` and ``status`` of every labeled image, in the order of ``placed``."""
        columns = ["digest", "status"]
        none = pa.table({name: pa.array([], pa.string()) for name in ("image_id", *columns)})
        tables = read_tables(self.files, superseded_images(self._manifest), columns)
        every = pa.concat_tables([none, *tables], promote_options="permissive").combine_chunks()
        return every if self._links is None else self._links.united(every)

    def rows(
        self,
        columns: list[str],
        where: Callable[[pa.Table], pa.Array] | None = None,
        shards: Collection[int] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """``read_rows`` for every record, or only for those in ``shards``; an image has a row for each pass."""
        files = {index: path for index, path in self.files.items() if shards is None or index in shards}
        return read_rows(files, superseded_images(self._manifest), columns, where)

    def failed_in(self, shards: Collection[int] | None = None) -> list[tuple[str, str]]:
        """(image id, error) of the failed images, in all shards or only in those of ``shards`` that are labeled."""
        return [(row["image_id"], row["error"]) for row in self.rows(["status", "error"], has_failed, shards)]

    def lacking(self) -> dict[int, int]:
        """How many labeled images a pass has not labeled, by pass; images that failed do not count."""
        if len(self.passes) == 1:
            return {}
        of_pass = self._ids_by_pass(self.files)
        labeled = set[str]().union(*of_pass.values()).difference(image_id for image_id, _ in self.failed_in())
        counts = {number: len(labeled - of_pass.get(number, set())) for number in self.passes}
        return {number: count for number, count in counts.items() if count}

    def unlabeled(self) -> int:
        """How many images no pass has labeled."""
        labeled = self._ids_by_pass(self.files).values()
        every = self._ids_by_pass(self._manifest.column("shard").unique().to_pylist()).values()
        return len(set[str]().union(*every) - set[str]().union(*labeled))

    def _ids_by_pass(self, shards: Collection[int]) -> dict[int, set[str]]:
        """The current images of ``shards``, by pass; of active passes alone."""
        chosen = pa.array([shard for shard in shards if pass_of(shard) in self.passes], pa.int32())
        rows = pc.and_not(pc.is_in(self._manifest.column("shard"), chosen), self._manifest.column("superseded"))
        images = self._manifest.filter(rows)
        numbers = images.column("shard").to_numpy() // SHARDS_PER_PASS
        of_pass = {number: images.filter(pa.array(numbers == number)) for number in set(numbers.tolist())}
        return {number: set(rows.column("image_id").to_pylist()) for number, rows in of_pass.items()}


def has_failed(rows: pa.Table) -> pa.Array:
    return pc.equal(rows.column("status"), "error")


def failed_or_noted(rows: pa.Table) -> pa.Array:
    return pc.or_(has_failed(rows), pc.not_equal(rows.column("error"), ""))
