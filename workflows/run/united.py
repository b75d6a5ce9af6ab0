"""The records that several labeling passes made of one image, as one record.

A dataset is the union of its passes. An instance belongs to the class that has its prompt now, whatever the class was
called, or which id it had, when the image was labeled. Everything that reads records reads them through this.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from labeler.errors import RunError
from labeler.record_files import read_records
from labeler.records import ImageRecord, Instance
from ontologies import Ontology
from ontologies.ontology import DISTRACTOR
from workflows.settings.passes import Pass, prompt_key

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

CHANGED = "the image changed between two labeling passes; run the label command again"
OPEN_FILES = 8
ClassOf = Callable[[ImageRecord, Instance], int | None]


def class_of(made: Pass, ontology: Ontology) -> ClassOf:
    """What tells the class id in ``ontology`` of an instance of the pass ``made``; None if no class has its prompt.

    Some labelers name what they found by other words than the prompt: then the class they were asked for decides.

    Raises:
        RunError: (what is returned) the pass has no class of that id.
    """
    pairs = [(prompt, class_id) for class_id, spec in enumerate(ontology.classes) for prompt in spec.prompts]
    ids = {prompt_key(prompt): class_id for prompt, class_id in pairs}
    ids |= {prompt_key(prompt): class_id for prompt, class_id in ontology.prompts if class_id != DISTRACTOR}
    asked = made.ontology or ontology
    prompts = [[prompt_key(prompt) for prompt in spec.prompts] for spec in asked.classes]
    known = {prompt for of_class in prompts for prompt in of_class}
    by_class = [next((ids[prompt] for prompt in of_class if prompt in ids), None) for of_class in prompts]

    def find(record: ImageRecord, instance: Instance) -> int | None:
        if instance.class_id >= len(by_class):
            raise RunError(
                f"the record of image {record.image_id!r} has class id {instance.class_id}, but there are "
                f"{len(by_class)} classes; label the images again into a new folder"
            )
        prompt = prompt_key(instance.prompt)
        return ids.get(prompt) if prompt in known else by_class[instance.class_id]

    return find


def mapped(record: ImageRecord, labeling_pass: int, find: ClassOf) -> ImageRecord:
    """The record of one pass, with the class ids of the dataset; instances without a class are left out."""
    ids = [find(record, each) for each in record.instances]
    if labeling_pass == 0 and ids == [each.class_id for each in record.instances]:
        return record
    pairs = enumerate(zip(record.instances, ids, strict=True))
    kept = (replace(each, class_id=id_, origin=(labeling_pass, n)) for n, (each, id_) in pairs if id_ is not None)
    return replace(record, instances=tuple(kept))


def unite(parts: Sequence[tuple[int, ImageRecord]], class_ids: Mapping[int, ClassOf]) -> ImageRecord:
    """One record of an image. An image that failed in one pass has failed, since its labels are not complete.

    Args:
        parts: (pass, its record), in the order of the passes.
        class_ids: by pass.
    """
    records = [mapped(record, number, class_ids[number]) for number, record in parts]
    if len(records) == 1:
        return records[0]
    first = records[0]
    if failed := next((each for each in records if each.status == "error"), None):
        return replace(first, status="error", error=failed.error, instances=())
    if len({each.digest for each in records}) > 1:
        return replace(first, status="error", error=CHANGED, instances=())
    instances, tags = list[Instance](), dict[str, float]()
    for (number, _), record in zip(parts, records, strict=True):
        instances += (replace(each, origin=each.origin or (number, n)) for n, each in enumerate(record.instances))
        tags = dict(record.tags) | tags
    return replace(
        first,
        error="; ".join(dict.fromkeys(each.error for each in records if each.error)),
        tags=tuple(tags.items()),
        instances=tuple(sorted(instances, key=lambda each: -each.score)),
    )


@dataclass(frozen=True)
class Links:
    """The current records of a run, in shard order, linked over the passes.

    Attributes:
        shards, rows: int32 ``(n,)``, the shard of each record and its row there.
        is_first: bool ``(n,)``, whether it is the image's record of the first pass that has one.
        later: int32 ``(n,)``, the index of the image's record in the next pass that has one; -1 if there is none.
    """

    shards: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]
    is_first: npt.NDArray[np.bool_]
    later: npt.NDArray[np.int32]

    @classmethod
    def of(cls, manifest: pa.Table, labeled: npt.NDArray[np.int32]) -> Links:
        """The links of the records in the ``labeled`` shards."""
        shards = manifest.column("shard").to_numpy()
        starts = np.searchsorted(shards, shards)
        kept = np.isin(shards, labeled) & ~np.asarray(manifest.column("superseded"))
        codes = manifest.column("image_id").combine_chunks().dictionary_encode().indices.to_numpy()[kept]
        order = np.argsort(codes, kind="stable")
        same = codes[order][1:] == codes[order][:-1]
        later, is_first = np.full(len(codes), -1, np.int32), np.ones(len(codes), bool)
        later[order[:-1][same]] = order[1:][same]
        is_first[order[1:][same]] = False
        rows = (np.arange(len(shards)) - starts)[kept]
        return cls(shards[kept], rows.astype(np.int32), is_first, later)

    def first_shards(self) -> dict[int, int]:
        """The shards with a first record of an image, each with the index of its first current record."""
        shards = np.unique(self.shards[self.is_first])
        starts = np.searchsorted(self.shards, shards)
        return dict(zip(shards.tolist(), starts.tolist(), strict=True))

    def places(self, index: int) -> list[tuple[int, int]]:
        """(shard, row) of the record at ``index`` and of those of the same image in later passes; -1 has none."""
        found = []
        while index >= 0:
            found.append((int(self.shards[index]), int(self.rows[index])))
            index = int(self.later[index])
        return found

    def united(self, table: pa.Table) -> pa.Table:
        """``table``, a row for each record, as a row for each image: the first, with the failure of any."""
        status = table.column("status").to_pylist()
        for index in np.flatnonzero(self.is_first & (self.later >= 0)).tolist():
            later = index
            while (later := int(self.later[later])) >= 0:
                status[index] = "error" if status[later] == "error" else status[index]
        place = table.schema.get_field_index("status")
        table = table.set_column(place, table.schema.field("status"), pa.array(status, pa.string()))
        return table.filter(pa.array(self.is_first))


class RecordReader:
    """Reads single records of record files, cheaply if they are asked for about in order."""

    def __init__(self, files: Mapping[int, AnyPath]) -> None:
        self._files = files
        self._open: OrderedDict[int, tuple[int, Iterator[ImageRecord]]] = OrderedDict()

    def read(self, shard: int, row: int) -> ImageRecord:
        at, records = self._open.pop(shard, (0, iter(())))
        if at == 0 or at > row:
            at, records = 0, read_records([self._files[shard]])
        for record in records:
            at += 1
            if at > row:
                self._open[shard] = at, records
                if len(self._open) > OPEN_FILES:
                    self._open.popitem(last=False)
                return record
        raise RunError(f"{self._files[shard]} changed while it was read; run the command again")
