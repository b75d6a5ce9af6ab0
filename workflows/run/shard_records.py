"""The current records of the images of one shard, to be read wherever that is convenient, also in another process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labeler.record_files import read_records
from labeler.records import ImageRecord
from ontologies import Ontology
from workflows.run.shard_files import pass_of
from workflows.run.united import ClassOf, RecordReader, class_of, unite
from workflows.settings.passes import Pass

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

Place = tuple[tuple[int, "AnyPath", int], ...]
"""(pass, record file, row) of an image's record in each labeling pass that has one."""


@dataclass(frozen=True)
class ClassIds:
    """What maps the instances of each pass to the classes of now; empty where tags make the classes."""

    passes: Sequence[Pass] = ()
    ontology: Ontology | None = None

    def by_pass(self) -> dict[int, ClassOf]:
        ontology = self.ontology
        return {number: class_of(made, ontology) for number, made in enumerate(self.passes)} if ontology else {}


@dataclass(frozen=True)
class ShardRecords:
    """Where the records of some images are: those whose first record is current and in the shard ``index``.

    Attributes:
        files: the record file of this shard and of those of later passes with records of the same images, by shard.
        rows: of the images, in the order of the record file; None for all, if no manifest tells.
        later: (shard, row) of an image's records in later passes, by its row.
        image_ids: in the order of ``rows``; None if ``rows`` is.
    """

    index: int
    files: Mapping[int, AnyPath]
    class_ids: ClassIds
    rows: Sequence[int] | None = None
    later: Mapping[int, Sequence[tuple[int, int]]] = field(default_factory=dict)
    image_ids: Sequence[str] | None = None

    def placed(self) -> Iterator[tuple[Place, ImageRecord]]:
        """One record an image, as ``CurrentRecords.placed`` gives it.

        Raises:
            RunError: a record has a class id that its pass did not have.
        """
        wanted = None if self.rows is None else set(self.rows)
        reader, class_ids = RecordReader(self.files), self.class_ids.by_pass()
        for row, record in enumerate(read_records([self.files[self.index]])):
            if wanted is not None and row not in wanted:
                continue
            later = self.later.get(row, ())
            parts = [(pass_of(self.index), record)]
            parts += ((pass_of(shard), reader.read(shard, at)) for shard, at in later)
            places = ((self.index, row), *later)
            place = tuple((pass_of(shard), self.files[shard], at) for shard, at in places)
            yield place, unite(parts, class_ids) if class_ids else record
