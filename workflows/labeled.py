"""A labeled folder, opened to look at what is in it; no model runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labeler.errors import RunError
from labeler.quality import Judgement, judge
from labeler.records import ImageRecord
from labeler.storage import locate
from ontologies import Ontology
from workflows.classes import classes_of_tags, numbered
from workflows.config import saved_export
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
        of_tags = self.settings["ontology"] is None
        return numbered(self.run.labeled(), self.ontology) if of_tags else self.run.labeled()

    def judged(self) -> Iterator[tuple[ImageRecord, list[Judgement]]]:
        """Each record with the verdict on every instance."""
        for record in self.records():
            yield record, judge(record, self.export.quality, self.ontology.classes)


def open_labeled(output: AnyPath) -> Labeled:
    """The labeled folder ``output``.

    Raises:
        RunError: it is none, or nothing in it has a class.
    """
    run = RunFolder(output)
    settings = run.read_settings()
    export = saved_export(settings["export"])
    ontology = saved_ontology(settings["ontology"]) or classes_of_tags(
        run.tags(), run.class_names(), export.min_tag_count, export.max_classes
    )
    if ontology is None:
        raise RunError(f"{output}: no image has a tag to make a class of; lower --tag-score, or name classes")
    return Labeled(run, locate(settings["input"]), ontology, export, settings)
