"""The current records of a run, one an image: the union of what its labeling passes found, without replaced records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from labeler.record_files import read_record, read_records
from labeler.records import ImageRecord
from workflows.run.manifest import superseded_images
from workflows.run.record_rows import read_rows, read_tables, with_digests
from workflows.run.shard_files import SHARDS_PER_PASS, pass_of
from workflows.run.united import ClassOf, Links, RecordReader, class_of, unite

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath
    from workflows.settings.run_settings import RunSettings

Place = tuple[tuple[int, "AnyPath", int], ...]
"""(pass, record file, row) of an image's record in each labeling pass that has one."""


class CurrentRecords:
    """The records as they are when this is made. Passes whose prompts no class has any more are left out.

    Args:
        manifest: of the run; empty if there is none, and then there are no replaced records.
        labeled: the usable record files, by shard.
        settings: reads what the run folder remembers.
    """

    def __init__(self, manifest: pa.Table, labeled: Mapping[int, AnyPath], settings: Callable[[], RunSettings]) -> None:
        self._manifest, self._settings = manifest, settings
        self.passes = self._active_passes()
        self._files = {shard: path for shard, path in labeled.items() if pass_of(shard) in self.passes}

    def _active_passes(self) -> Collection[int]:
        shards = self._manifest.column("shard")
        if not len(shards) or pc.max(shards).as_py() < SHARDS_PER_PASS:
            return (0,)
        settings = self._settings()
        return [number for number, made in enumerate(settings.passes) if made.is_active(settings.ontology)]

    @cached_property
    def _links(self) -> Links | None:
        """How the records of several passes belong together; None if there is one pass."""
        return Links.of(self._manifest, sorted(self._files)) if any(map(pass_of, self._files)) else None

    @cached_property
    def _class_ids(self) -> dict[int, ClassOf]:
        """What maps the instances of each pass to the classes of now; empty where tags make the classes."""
        settings = self._settings()
        ontology = settings.ontology
        return {number: class_of(made, ontology) for number, made in enumerate(settings.passes)} if ontology else {}

    def placed(self) -> Iterator[tuple[Place, ImageRecord]]:
        """One record of every labeled image, in shard order, behind what ``at`` finds it by.

        Class ids are those of now. Where tags make the classes, they are as in the record files.

        Raises:
            RunError: a record has a class id that its pass did not have.
        """
        superseded, links, reader = superseded_images(self._manifest), self._links, RecordReader(self._files)
        first_shards = None if links is None else links.first_shards()
        for shard, path in sorted(self._files.items()):
            if first_shards is not None and shard not in first_shards:
                continue  # all of its images have a record in an earlier pass, which comes with this one
            index = -1 if first_shards is None else first_shards[shard] - 1
            for row, record in enumerate(read_records([path])):
                if (shard, record.image_id) in superseded:
                    continue
                index += 1
                if links is not None and not links.is_first[index]:
                    continue
                later = links.places(int(links.later[index])) if links is not None else []
                parts = [(pass_of(shard), record), *((pass_of(other), reader.read(other, at)) for other, at in later)]
                place = ((shard, row), *later)
                yield (
                    tuple((pass_of(each), self._files[each], at) for each, at in place),
                    unite(parts, self._class_ids) if self._class_ids else record,
                )

    def at(self, place: Place) -> ImageRecord:
        """One of the records of ``placed``."""
        parts = [(number, read_record(path, row)) for number, path, row in place]
        return unite(parts, self._class_ids) if self._class_ids else parts[0][1]

    def known(self) -> pa.Table:
        """``image_id``, ``stamp`` and ``digest`` (from the record) of every labeled image."""
        known = with_digests(self._manifest, self._files)
        return known if self._links is None else known.filter(pa.array(self._links.is_first))

    def contents(self) -> pa.Table:
        """``image_id``, ``digest`` and ``status`` of every labeled image, in the order of ``placed``."""
        columns = ["digest", "status"]
        none = pa.table({name: pa.array([], pa.string()) for name in ("image_id", *columns)})
        tables = read_tables(self._files, superseded_images(self._manifest), columns)
        every = pa.concat_tables([none, *tables], promote_options="permissive").combine_chunks()
        return every if self._links is None else self._links.united(every)

    def rows(
        self,
        columns: list[str],
        where: Callable[[pa.Table], pa.Array] | None = None,
        shards: Collection[int] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """``read_rows`` for every record, or only for those in ``shards``; an image has a row for each pass."""
        files = {index: path for index, path in self._files.items() if shards is None or index in shards}
        return read_rows(files, superseded_images(self._manifest), columns, where)

    def failed_in(self, shards: Collection[int] | None = None) -> list[tuple[str, str]]:
        """(image id, error) of the failed images, in all shards or only in those of ``shards`` that are labeled."""
        return [(row["image_id"], row["error"]) for row in self.rows(["status", "error"], has_failed, shards)]

    def lacking(self) -> dict[int, int]:
        """How many labeled images a pass has not labeled, by pass; images that failed do not count."""
        if len(self.passes) == 1:
            return {}
        of_pass = self._ids_by_pass(self._files)
        labeled = set[str]().union(*of_pass.values()).difference(image_id for image_id, _ in self.failed_in())
        counts = {number: len(labeled - of_pass.get(number, set())) for number in self.passes}
        return {number: count for number, count in counts.items() if count}

    def unlabeled(self) -> int:
        """How many images no pass has labeled."""
        labeled = self._ids_by_pass(self._files).values()
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
