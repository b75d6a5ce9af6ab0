"""A labeled folder, opened to look at what is in it; no model runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import tee
from typing import TYPE_CHECKING, Any

from labeler.decisions import decide
from labeler.errors import RunError
from labeler.quality import Judgement, judge
from labeler.records import ImageRecord, read_record
from labeler.storage import info, locate
from ontologies import Ontology
from workflows.classes import classes_of_tags, numbered, with_known_classes
from workflows.config import saved_export
from workflows.datasets import SPLITS
from workflows.decisions import by_image, read_decisions
from workflows.export import ExportConfig
from workflows.label import saved_ontology
from workflows.run_folder import RunFolder

if TYPE_CHECKING:
    from labeler.storage import AnyPath


@dataclass(frozen=True)
class Labeled:
    """Records with the classes and thresholds that they were last exported with.

    Attributes:
        root: where the images are, unless they are gone.
        ontology: the given one, or what the images' tags make.
        settings: ``run.json``.
    """

    run: RunFolder
    root: AnyPath
    ontology: Ontology
    export: ExportConfig
    settings: dict[str, Any]

    def records(self) -> Iterator[ImageRecord]:
        """One record an image, in shard order; class ids are places in ``ontology``."""
        return self._numbered(self.run.labeled())

    def placed(self) -> Iterator[tuple[AnyPath, int, ImageRecord]]:
        """As ``records``, each behind its file and its row there, for ``record_at``."""
        places, records = tee(self.run.placed())
        numbered_records = self._numbered(record for _, _, record in records)
        for (path, row, _), record in zip(places, numbered_records, strict=True):
            yield path, row, record

    def record_at(self, path: AnyPath, row: int) -> ImageRecord:
        """One of ``records``."""
        return next(self._numbered(iter([read_record(path, row)])))

    def _numbered(self, records: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        by_tag = self.settings["ontology"] is None
        return numbered(records, self.ontology) if by_tag else with_known_classes(records, self.ontology)

    def image_path(self, image_id: str) -> AnyPath | None:
        """Where an image is: in the input, or else in the dataset; None if it is gone."""
        copies = (self.run.output / "images" / split / image_id for split in SPLITS)
        return next(filter(info, (self.root / image_id, *copies)), None)

    def judged(self, by_hand: bool = True) -> Iterator[tuple[ImageRecord, list[Judgement]]]:
        """Each record as people's decisions left it, with the verdict on every instance.

        Args:
            by_hand: False leaves the decisions aside.
        """
        decisions = by_image(read_decisions(self.run)) if by_hand else {}
        for record in self.records():
            decided = decide(record, decisions.get(record.image_id, ()), self.ontology.class_names)
            yield decided.record, judge(decided.record, self.export.quality, self.ontology.classes, decided.verdicts)


def open_labeled(output: AnyPath) -> Labeled:
    """The labeled folder ``output``.

    Raises:
        RunError: it is none, or nothing in it has a class.
    """
    run = RunFolder(output)
    settings = run.read_settings()
    if settings["labeling"].get("tags_only"):
        raise RunError(f"{output} holds tags alone, of `labeler tag`; label the images first")
    export = saved_export(settings["export"])
    ontology = saved_ontology(settings["ontology"])
    if ontology is None and (saved := run.classes()):
        ontology = saved.ontology
    if ontology is None:  # never exported
        ontology = classes_of_tags(run.tags(), None, export.min_tag_count, export.max_classes)
    if ontology is None:
        raise RunError(f"{output}: no image has a tag to make a class of; lower --tag-score, or name classes")
    return Labeled(run, locate(settings["input"]), ontology, export, settings)
