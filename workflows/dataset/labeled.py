"""A labeled folder, opened to look at what is in it; no model runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from typing import TYPE_CHECKING

from labeler.decided import Decided, decide
from labeler.decisions import Decision
from labeler.errors import ImageError, RunError, UsageError
from labeler.files.conversion import source_at
from labeler.files.images import DecodedImage, ImageFile, digest_at
from labeler.files.storage import absolute, locate, locate_beside
from labeler.formats.splits import SPLITS
from labeler.geometry.polygon_rule import EXACT, PolygonRule
from labeler.quality import Judgement, judge
from labeler.records import ImageRecord
from ontologies import Ontology
from workflows.dataset.decision_log import by_image, read_decisions
from workflows.dataset.judging import Rules
from workflows.dataset.ledger import file_names
from workflows.dataset.originals import may_be_asked
from workflows.run.classes import classes_of_tags, numbered, with_known_classes
from workflows.run.current_records import CurrentRecords
from workflows.run.folder import RunFolder
from workflows.run.shard_records import Place
from workflows.settings.export import ExportConfig
from workflows.settings.run_settings import RunSettings

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


@dataclass(frozen=True)
class Labeled:
    """Records with the classes and thresholds that they were last exported with.

    Attributes:
        root: where the images are, unless they are gone.
        root_is_named: the user named ``root`` for this command; if not, a store is not asked for images.
        ontology: the given one, or what the images' tags make.
        settings: what the folder remembers.
    """

    run: RunFolder
    root: AnyPath
    ontology: Ontology
    export: ExportConfig
    settings: RunSettings
    root_is_named: bool = False

    def records(self) -> Iterator[ImageRecord]:
        """One record an image, in shard order; class ids are places in ``ontology``."""
        return self._numbered(self.run.labeled())

    def placed(self) -> Iterator[tuple[Place, ImageRecord]]:
        """As ``records``, each behind its place, for ``record_at``."""
        places, records = tee(self._current.placed())
        numbered_records = self._numbered(record for _, record in records)
        for (place, _), record in zip(places, numbered_records, strict=True):
            yield place, record

    def record_at(self, place: Place) -> ImageRecord:
        """One of ``records``."""
        return next(self._numbered(iter([self._current.at(place)])))

    @cached_property
    def _current(self) -> CurrentRecords:
        return self.run.current()

    def _numbered(self, records: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        by_tag = self.settings.ontology is None
        return numbered(records, self.ontology) if by_tag else with_known_classes(records, self.ontology)

    @cached_property
    def _file_names(self) -> dict[str, str]:
        return file_names(self.run.output)

    def image(self, image_id: str, digest: str) -> DecodedImage:
        """The image with that content digest: as the dataset has it, or else the input if that may be asked.

        Raises:
            ImageError: it is nowhere.
        """
        fault = "the image is gone"
        for file in self._image_files(image_id):
            try:
                image = file.read()
            except ImageError:
                continue
            if digest in (image.digest, image.source):
                return image
            fault = "the image has changed since it was labeled"
        raise ImageError(fault)

    def image_path(self, record: ImageRecord) -> AnyPath | None:
        """Where the image of ``record`` is as it was labeled; None if it is nowhere."""
        for file in self._image_files(record.image_id):
            if record.digest in (digest_at(file.path, file.frame), source_at(file.path).digest):
                return file.path
        return None

    def _image_files(self, image_id: str) -> Iterator[ImageFile]:
        name = self._file_names.get(image_id, image_id)
        reading = self.settings.reading
        yield from (ImageFile(self.run.output / "images" / split / name, config=reading) for split in SPLITS)
        if self.root_is_named or may_be_asked(self.root, self.run.output):
            yield ImageFile.of(self.root, image_id, reading)

    @property
    def polygon_rules(self) -> frozenset[PolygonRule]:
        """How polygons in the dataset may have been made, also those in edited files, which exports do not replace."""
        published = self.settings.published
        return frozenset({EXACT, self.export.polygons, published.export.polygons if published else EXACT})

    @property
    def rules(self) -> Rules:
        """What ``judged`` judges by."""
        return Rules(self.ontology, self.settings.ontology is None, self.export)

    def decisions(self) -> dict[str, list[Decision]]:
        """People's decisions by image id, each image's in the order they were made."""
        return by_image(read_decisions(self.run, self.ontology))

    def judged(self) -> Iterator[tuple[ImageRecord, list[Judgement]]]:
        """Each record as people's decisions left it, with the verdict on every instance."""
        return ((decided.record, judgements) for decided, judgements in self.decided())

    def decided(self) -> Iterator[tuple[Decided, list[Judgement]]]:
        """As ``judged``, with what decisions did to each record."""
        decisions = self.decisions()
        for record in self.records():
            decided = decide(record, decisions.get(record.image_id, ()), self.ontology.class_names)
            yield decided, judge(decided.record, self.export.quality, self.ontology.classes, decided.verdicts)


def named_root(saved: str, named: str | None, output: AnyPath) -> tuple[AnyPath, bool]:
    """The input's folder or URI, and whether the user named it.

    Args:
        saved: as the run folder holds it, without a password. If it is in the store of ``output``, that one's is used.

    Raises:
        UsageError: the user named another one.
    """
    root = locate_beside(saved, output)
    if named is None:
        return root, False
    given = absolute(locate(named))
    if str(given).rstrip("/") != str(root).rstrip("/"):
        raise UsageError(f"--images {named}: the images were labeled from {saved}; name that, or leave --images out")
    return given, True


def open_labeled(output: AnyPath, images: str | None = None) -> Labeled:
    """The labeled folder ``output``.

    Args:
        images: the input, if the user named it.

    Raises:
        UsageError: ``images`` is not the input.
        RunError: it is none, or nothing in it has a class.
    """
    run = RunFolder(output)
    settings = run.settings.read()
    if settings.tags_only:
        raise RunError(f"{output} holds tags alone, of `labeler tag`; label the images first")
    export, ontology = settings.export, settings.ontology
    if ontology is None and (saved := run.classes()):
        ontology = saved.ontology
    if ontology is None:  # never exported
        ontology = classes_of_tags(run.tags(), None, export.min_tag_count, export.max_classes)
    if ontology is None:
        raise RunError(f"{output}: no image has a tag to make a class of; lower --tag-score, or name classes")
    root, root_is_named = named_root(settings.input, images, output)
    return Labeled(run, root, ontology, export, settings, root_is_named)
