"""Which dataset settings hold for a run: those that its folder remembers, with what the user changes."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labeler.errors import LabelerError, UsageError
from labeler.formats.mask_classes import check_mask_classes
from labeler.models.families import Family
from labeler.quality_config import QualityConfig
from ontologies import Ontology
from workflows.settings.class_ids import of_class, under_new_names
from workflows.settings.export import WITH_CLASS_MASKS, ExportConfig
from workflows.settings.passes import without_warnings
from workflows.settings.run_settings import DatasetSettings, RunSettings, min_scores_of

if TYPE_CHECKING:
    from workflows.settings.run_json import RunJson

logger = logging.getLogger(__name__)

ExportChange = Callable[[ExportConfig], ExportConfig]
"""Makes the settings of a run from those that its folder remembers, or in a new folder from the defaults."""
CLASSES_NAMED = 10


@dataclass(frozen=True)
class Settled:
    """The settings of one run, and those before it.

    Attributes:
        ontology: with the ``min_score`` values that hold; None where tags make the classes.
        export: the settings that hold.
        remembered: those that the folder remembered when the run began.
        published: what the dataset on disk was written with; None if there is none, or it is not known.
        started_from: the family whose defaults ``export`` started from; None if it started from ``remembered``.
    """

    ontology: Ontology | None
    export: ExportConfig
    remembered: ExportConfig
    published: DatasetSettings | None = None
    started_from: Family | None = None

    @property
    def compared(self) -> DatasetSettings | None:
        """``published`` under the names that classes have now."""
        if self.published is None:
            return None
        export, own = self.published.export, self.published.export.quality.class_accept_scores
        quality = replace(export.quality, class_accept_scores=under_new_names(own, self.ontology))
        min_scores = under_new_names(self.published.min_scores, self.ontology)
        return DatasetSettings(replace(export, quality=quality), min_scores)

    @property
    def in_force(self) -> DatasetSettings:
        return DatasetSettings(self.export, min_scores_of(self.ontology))


def settle(
    file: RunJson,
    saved: RunSettings | None,
    change: ExportConfig | ExportChange | None,
    ontology: Ontology | None,
    floor: float,
    family: Family,
    *,
    keep_min_scores: bool = False,
    reset: bool = False,
) -> Settled:
    """The settings that hold; ``published`` is left out.

    Args:
        saved: the settings of the folder; None in a new one.
        change: the settings, or what makes them from the remembered ones; None leaves these as they are.
        floor: score from which the records keep candidates.
        family: the family of the models; its thresholds are the defaults.
        keep_min_scores: give the classes of ``ontology`` the remembered ``min_score`` values.
        reset: start from the defaults, not from what is remembered.

    Raises:
        UsageError: they do not suit the classes or the floor.
    """
    if keep_min_scores:
        if saved and "ontology" in saved.faults:
            logger.warning("%s: the classes are damaged; their min_score values are lost", file.path)
        ontology = with_min_scores(ontology, saved.min_scores if saved else {})
    defaults = ExportConfig(family.quality)
    remembered = saved.export if saved else defaults
    starts_anew = (reset or saved is None) and not isinstance(change, ExportConfig)
    config = resolved(change, defaults if starts_anew else remembered, ontology)
    check_floor(floor, config.quality, ontology)
    check_class_names(config.quality, ontology)
    check_formats(config.formats, ontology)
    return Settled(ontology, config, remembered, started_from=family if starts_anew else None)


def with_min_scores(ontology: Ontology | None, min_scores: Mapping[str, float]) -> Ontology | None:
    """``ontology`` with exactly these ``min_score`` values."""
    if ontology is None:
        return None
    classes = [
        replace(spec, min_score=None if spec.removed else of_class(spec, min_scores)) for spec in ontology.classes
    ]
    return without_warnings(tuple(classes), ontology.distractors)


def resolved(
    change: ExportConfig | ExportChange | None, remembered: ExportConfig, ontology: Ontology | None
) -> ExportConfig:
    """What holds: ``change`` itself, or what it makes of ``remembered``; None leaves that as it is.

    Accept scores of classes that are gone are dropped from ``remembered``; those of renamed ones follow them.
    """
    if isinstance(change, ExportConfig):
        return change
    if ontology is not None:
        own = remembered.quality.class_accept_scores
        active = [spec for spec in ontology.classes if not spec.removed]
        kept = {spec.name: score for spec in active if (score := of_class(spec, own)) is not None}
        remembered = replace(remembered, quality=replace(remembered.quality, class_accept_scores=kept))
    return change(remembered) if change else remembered


def check_class_names(quality: QualityConfig, ontology: Ontology | None) -> None:
    """Refuse accept scores of classes that ``ontology`` does not have; tags may make any class.

    Raises:
        UsageError: a class is unknown.
    """
    for name in quality.class_accept_scores:
        if ontology is not None and name not in ontology.class_names:
            near = difflib.get_close_matches(name, ontology.active_names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "use a name as listed"
            known = ", ".join(ontology.active_names[:CLASSES_NAMED])
            raise UsageError(f"--class-accept-score: {name!r} is not among the classes ({known}); {hint}")


def check_formats(formats: Collection[str], ontology: Ontology | None) -> None:
    """Refuse formats that cannot hold the classes of ``ontology``; which ones tags make is not known yet.

    Raises:
        UsageError: there are too many classes, or a name cannot be written.
    """
    if ontology is not None and (named := [name for name in WITH_CLASS_MASKS if name in formats]):
        try:
            check_mask_classes(ontology.class_names)
        except UsageError as error:
            raise UsageError(f"--formats {','.join(named)}: {error}") from None


def check_floor(floor: float, quality: QualityConfig, ontology: Ontology | None) -> None:
    """Refuse thresholds that no record can meet.

    Raises:
        UsageError: one lies below ``floor``.
    """
    thresholds = [("--min-score", quality.min_score)]
    thresholds += [(f"min_score of class {name!r}", score) for name, score in min_scores_of(ontology).items()]
    in_force = [(score, name) for name, score in thresholds if score]
    least, name = min(in_force, default=(1.0, ""))
    if least < floor:
        raise UsageError(
            f"{name} {least} is below the records' candidate floor of {floor}; raise it, or label with --floor {least}"
        )


def last_published(file: RunJson, saved: RunSettings | None, has_dataset: bool) -> DatasetSettings | None:
    """What the dataset on disk was written with; None if there is no dataset, or it is not known.

    Args:
        saved: the settings of the folder. If an older version wrote them, what they remember is what was published.
        has_dataset: whether a dataset was written.
    """
    if saved is None or saved.published is not None:
        return saved.published if saved else None
    if fault := saved.faults.get("published") or (saved.faults.get("export") if has_dataset else None):
        logger.warning(
            "%s: what the dataset was written with is damaged (%s); changes since then are not listed",
            file.path,
            fault,
        )
        return None
    return DatasetSettings(saved.export, saved.min_scores) if has_dataset else None


@contextmanager
def publishing(file: RunJson, settled: Settled) -> Iterator[None]:
    """Keep the settings of the dataset that is written in the block.

    They are remembered first, so that they survive a kill. If no dataset can be written with them, those before are
    remembered again: otherwise one mistake would fail every later run, too.
    """
    saved = file.read(replacing=("ontology", "export"))
    before = replace(saved, published=settled.published or saved.published)
    now = replace(before, ontology=settled.ontology, export=settled.export)
    file.write(now)
    try:
        yield
    except LabelerError:
        file.write(replace(before, export=settled.remembered))
        raise
    file.write(replace(now, published=settled.in_force))
